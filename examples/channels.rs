//! The example of the README's section on channels: words that come one by one, and a limit.

use std::time::Duration;

use coro::{chan, go, select};

fn main() {
    let (sender, words) = chan::bounded(0);
    go(move || ["one", "two"].map(|word| sender.send(word).expect("it is received")));
    let late = chan::after(Duration::from_secs(60));
    loop {
        select! {
            recv(words) -> word => match word {
                Ok(word) => println!("{word}"),
                Err(closed) => break println!("{closed}"),
            },
            recv(late) -> _ => break println!("that took too long"),
        }
    }
}
