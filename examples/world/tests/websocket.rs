use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tungstenite::{Message, WebSocket};

use crate::common::{Running, Server, printed};

fn start() -> Server {
    Server::start(Command::new(env!("CARGO_BIN_EXE_websocket")).arg("127.0.0.1:0"))
}

struct Client {
    socket: WebSocket<TcpStream>,
    /// By which the others know it.
    name: String,
}

impl Client {
    /// Its first message, which says that it has come, is received already.
    fn connect(server: &Server) -> Client {
        let stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let name = stream.local_addr().unwrap().to_string();
        let url = format!("ws://{}/", server.address);
        let (socket, _) = tungstenite::client(url, stream).unwrap();
        let mut client = Client { socket, name };
        assert_eq!(client.receive(), format!("{} has come", client.name));
        client
    }

    fn say(&mut self, text: &str) {
        self.socket.send(text.into()).unwrap();
    }

    fn receive(&mut self) -> String {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => break text.to_string(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn websocket_tells_everybody_in_one_order() {
    let server = start();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(&server)).collect();
    let names: Vec<String> = clients.iter().map(|client| client.name.clone()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        for name in &names[i + 1..] {
            assert_eq!(client.receive(), format!("{name} has come"));
        }
    }
    for round in 0..50 {
        clients.iter_mut().for_each(|client| client.say(&format!("{round}")));
    }
    let mut told = clients.iter_mut().map(|client| {
        let told = (0..500).map(|_| client.receive()).collect::<Vec<_>>();
        for name in &names {
            let own = told.iter().filter_map(|text| text.strip_prefix(&format!("{name}: ")));
            assert!(own.eq((0..50).map(|round| round.to_string())), "in the order of {name}");
        }
        told
    });
    let first = told.next().unwrap();
    assert!(told.all(|told| told == first), "all have been told the same");
}

#[test]
fn websocket_goes_on_when_clients_leave_in_whatever_way() {
    let server = start();
    let mut stays = Client::connect(&server);
    for politely in [true, false] {
        let mut leaves = Client::connect(&server);
        assert_eq!(stays.receive(), format!("{} has come", leaves.name));
        if politely {
            leaves.socket.close(None).unwrap();
            while leaves.socket.read().is_ok() {}
        }
        let name = leaves.name.clone();
        drop(leaves);
        assert_eq!(stays.receive(), format!("{name} has left"));
    }
    // What is no WebSocket is not let in, and nobody hears of it.
    TcpStream::connect(&server.address).unwrap().write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stays.say("alone");
    assert_eq!(stays.receive(), format!("{}: alone", stays.name));
}

/// It is written to and read from at the same time, and neither waits for the other.
#[test]
fn websocket_a_client_that_does_not_read_is_told_to_leave_and_holds_up_nobody() {
    let server = start();
    let deaf = Client::connect(&server);
    let mut talks = Client::connect(&server);
    let long = "long ".repeat(10_000);
    let mut rounds = 0;
    loop {
        talks.say(&long);
        let text = talks.receive();
        if text == format!("{} has left", deaf.name) {
            break;
        }
        assert_eq!(text.len(), talks.name.len() + 2 + long.len());
        rounds += 1;
        assert!(rounds < 20_000, "a gigabyte, and it is still there");
    }
}

/// The same protocol as other people understand it.
#[test]
fn websocket_talks_with_python() {
    let python = "
import asyncio, sys, websockets

async def chat(url):
    async with websockets.connect(url) as one, websockets.connect(url) as two:
        await one.send('hello')
        await two.send('bonjour')
        for socket in one, two:
            said = set()
            while len(said) < 2:
                text = await socket.recv()
                if ': ' in text:
                    said.add(text.split(': ')[1])
            print(sorted(said))
        await (await one.ping())
        print('pong')

asyncio.run(chat(sys.argv[1]))
";
    let server = start();
    // Debian's own, which has Debian's packages.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", python, &format!("ws://{}/", server.address)]);
    let said = printed(&mut command, "python3-websockets");
    assert_eq!(said, "['bonjour', 'hello']\n['bonjour', 'hello']\npong\n");
}

/// A client that hears, as a process of its own, while another talks.
#[test]
fn websocket_pythons_listener_hears_every_message() {
    let python = "
import asyncio, sys, websockets

async def listen(url):
    async with websockets.connect(url) as socket:
        print('here', flush=True)
        async for text in socket:
            if text.endswith(': end'):
                break
            if ': ' in text:
                print(text.split(': ')[1])

asyncio.run(listen(sys.argv[1]))
";
    let server = start();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", python, &format!("ws://{}/", server.address)]);
    let mut listener = Running::start(command.stdout(Stdio::piped()), "python3-websockets");
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("here"));
    let mut talks = Client::connect(&server);
    (0..500).for_each(|i| {
        talks.say(&i.to_string());
        talks.receive();
    });
    talks.say("end");
    assert!(lines.eq((0..500).map(|i| i.to_string())));
}
