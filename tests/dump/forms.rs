//! What a dump looks like, and what of it is shown.

use coro::inspect::{self, CoroutineState, dump};
use coro::{Builder, tls};
use serde_json::Value;

use crate::{common, dump_when_parked, only_group};

#[test]
fn dump_text_tells_of_everybody() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let coroutines: Vec<_> = (0..12)
        .map(|n| {
            let body = move || {
                inspect::label("request", format_args!("GET /{n}"));
                inspect::label("step", 1);
                inspect::label("step", 2);
                coro::park();
            };
            Builder::new().name(format!("server {n}")).spawn_on(&runtime, body).unwrap()
        })
        .collect();
    let dump = dump_when_parked(&coroutines);
    let text = dump.to_string();
    assert!(
        text.contains("\n12 parked, waiting for park\n  spawned at tests/dump/forms.rs:"),
        "{text}"
    );
    assert!(text.contains("  parked: 12 for less than 1 s\n"), "{text}");
    assert_eq!(text.matches("  coroutine ").count(), 10, "{text}");
    assert!(text.contains("\n  and 2 more\n"), "{text}");
    let first = text.lines().find(|line| line.starts_with("  coroutine ")).unwrap();
    assert!(
        first.contains("'server ") && first.contains(" bytes of stack, request=\"GET /"),
        "{first}"
    );
    assert!(first.ends_with(", step=\"2\""), "{first}");
    assert!(text.contains("   0: ") && text.contains("             at "), "{text}");
    // With a limit, what is not shown is counted.
    let limited = dump.limit(3).to_string();
    assert_eq!(limited.matches("  coroutine ").count(), 3, "{limited}");
    assert!(limited.contains("\n  and 9 more\n"), "{limited}");
}

#[test]
fn dump_filters_and_limit() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let named = |name: &str| Builder::new().name(name);
    let coroutines = [
        named("one").spawn_on(&runtime, coro::park).unwrap(),
        named("two").spawn_on(&runtime, coro::park).unwrap(),
        named("two").spawn_on(&runtime, coro::park).unwrap(),
    ];
    let all = dump_when_parked(&coroutines);
    assert_eq!(all.groups().len(), 3, "{all}");
    let text = all.limit(1).to_string();
    assert!(text.ends_with("\nand 2 more groups, of 2 coroutines\n"), "{text}");
    let dump_them = || dump_when_parked(&coroutines);
    assert_eq!(dump_them().named("two").len(), 2);
    assert_eq!(dump_them().named("tw").len(), 0);
    assert_eq!(dump_them().named("two").with_id(coroutines[1].id()).len(), 1);
    assert_eq!(dump_them().in_state(CoroutineState::Ready).len(), 0);
    let total = dump().len();
    let text = dump().named("one").to_string();
    assert!(text.starts_with("coro: 1 of "), "{text}, {total}");
    coroutines.iter().for_each(|one| one.handle().unpark());
}

/// What the methods say, the JSON says.
#[test]
fn dump_json_says_what_the_methods_say() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let name = "quotes \" and \\ and \n and \u{1} and \u{7f} and é and 🦀";
    let coroutines: Vec<_> = (0..3)
        .map(|n| {
            let body = move || {
                inspect::label("text", name);
                inspect::label("n", n);
                coro::park();
            };
            Builder::new().name(name).spawn_on(&runtime, body).unwrap()
        })
        .collect();
    let dump = dump_when_parked(&coroutines);
    let json: Value = serde_json::from_str(&dump.to_json()).unwrap();
    assert_eq!(json["shown"], 3);
    assert!(json["started"].as_u64().unwrap() >= 3);
    assert_eq!(json["fresh"], dump.fresh());
    assert_eq!((&json["unlisted"], &json["more_groups"]), (&dump.unlisted().into(), &0.into()));
    let [group] = &json["groups"].as_array().unwrap()[..] else { panic!("{json}") };
    let expected = only_group(&dump);
    assert_eq!(group["count"], 3);
    assert_eq!(group["state"], "parked");
    assert_eq!(group["waits_for"], "park");
    assert_eq!(group["spawned_at"], expected.spawned_at().to_string());
    assert_eq!(group["frames_end"], Value::Null);
    let coroutines = group["coroutines"].as_array().unwrap();
    assert_eq!(coroutines.len(), 3);
    for (one, expected) in coroutines.iter().zip(expected.coroutines()) {
        assert_eq!(one["id"], expected.id().get());
        assert_eq!(one["name"], name);
        assert_eq!(one["waits_for"], "park");
        assert_eq!(one["stack_used"], expected.stack_used().unwrap());
        assert_eq!(one["parked_for_ms"], expected.parked_for().unwrap().as_millis() as u64);
        assert_eq!(one["labels"]["text"], name);
        assert_eq!(one["labels"].as_object().unwrap().len(), 2);
    }
    let frames = group["frames"].as_array().unwrap();
    assert_eq!(frames.len(), expected.frames().count());
    for (frame, expected) in frames.iter().zip(expected.frames()) {
        assert_eq!(frame["address"], format!("{:#x}", expected.address()));
        let functions = frame["functions"].as_array().unwrap();
        assert_eq!(functions.len(), expected.functions().len());
        for (function, expected) in functions.iter().zip(expected.functions()) {
            assert_eq!(function["name"], expected.name());
            assert_eq!(function["line"].as_u64(), expected.line().map(u64::from));
            assert_eq!(function["file"].as_str(), expected.file().and_then(|file| file.to_str()));
        }
    }
    let json: Value = serde_json::from_str(&dump.limit(0).to_json()).unwrap();
    assert_eq!((&json["groups"], &json["more_groups"]), (&Value::Array(Vec::new()), &1.into()));
}

/// Labels are among the locals.
#[test]
fn dump_labels_go_with_the_locals() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let coroutine = runtime.go(|| {
        // So many that they are found by a hash.
        (0..100).for_each(|n| tls::set(n, n));
        inspect::label("kept", 1);
        coro::park();
        tls::reset();
        coro::park();
    });
    let one = std::slice::from_ref(&coroutine);
    assert_eq!(dump_when_parked(one).coroutines()[0].labels().collect::<Vec<_>>(), [("kept", "1")]);
    coroutine.handle().unpark();
    while dump_when_parked(one).coroutines()[0].labels().next().is_some() {}
    coroutine.handle().unpark();
    coroutine.join().unwrap();
    // A thread may have labels too, which nobody lists.
    inspect::label("of a thread", 1);
}

#[test]
fn dump_counts_the_fresh_ones() {
    let _watchdog = common::watchdog();
    common::in_child("dump_counts_the_fresh_ones", common::CHILDS_LIMIT, || {
        let runtime = common::runtime(1);
        let gate = common::Gate::default();
        let holds = {
            let gate = gate.clone();
            runtime.go(move || gate.block())
        };
        while inspect::metrics().fresh > 0 {}
        let placed = |runtime: &coro::Runtime| {
            Builder::new().place(coro::Place::Worker(0)).spawn_on(runtime, || ()).unwrap()
        };
        let fresh: Vec<_> = (0..5).map(|_| placed(&runtime)).chain([runtime.go(|| ())]).collect();
        let dump = dump();
        assert_eq!(dump.fresh(), 6);
        let text = dump.to_string();
        assert!(text.contains(", 6 are fresh\n"), "{text}");
        assert!(text.contains("coro: 5 fresh ones spawned at tests/dump/forms.rs:"), "{text}");
        gate.open();
        holds.join().unwrap();
        fresh.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// Who has spawned a coroutine, with its name for as long as it is there.
#[test]
fn dump_names_who_has_spawned() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let spawn = || {
        let child = || Builder::new().spawn(coro::park).unwrap();
        let children = [child(), child()];
        coro::park();
        children
    };
    let parents = ["first", "second"]
        .map(|name| Builder::new().name(name).spawn_on(&runtime, spawn).unwrap());
    assert_eq!(dump_when_parked(&parents).coroutines()[0].spawned_by(), None);
    let all = || loop {
        let dump = dump().filter(|one| {
            one.spawned_by().is_some_and(|id| parents.iter().any(|parent| parent.id() == id))
        });
        if dump.coroutines().iter().all(|one| one.state() == CoroutineState::Parked)
            && dump.len() == 4
        {
            return dump;
        }
    };
    let dump = all();
    for (parent, name) in parents.iter().zip(["first", "second"]) {
        let id = parent.id();
        let children: Vec<_> =
            dump.coroutines().iter().filter(|one| one.spawned_by() == Some(id)).collect();
        assert_eq!(children.len(), 2);
        assert!(children.iter().all(|one| one.spawned_by_name() == Some(name)), "{dump}");
        assert_eq!(
            dump.to_string().matches(&format!(", spawned by coroutine {id} '{name}'")).count(),
            2,
            "{dump}"
        );
    }
    assert_eq!(only_group(&dump).spawned_by(), None);
    // All of one coroutine's.
    let first = parents[0].id();
    let dump = dump.filter(|one| one.spawned_by() == Some(first));
    assert_eq!(only_group(&dump).spawned_by(), Some(first));
    let text = dump.to_string();
    let by = format!(" by coroutine {first} 'first'\n");
    assert!(text.contains(&by) && text.matches("by coroutine").count() == 1, "{text}");
    let json: Value = serde_json::from_str(&dump.to_json()).unwrap();
    let spawned_by = &json["groups"][0]["coroutines"][1]["spawned_by"];
    assert_eq!((&spawned_by["id"], &spawned_by["name"]), (&first.get().into(), &"first".into()));
    // Nobody knows the name of one that has ended.
    let [parent, _] = parents.map(|parent| (parent.handle().unpark(), parent.join().unwrap()).1);
    let one = dump_when_parked(&parent[..1]);
    assert_eq!(
        (one.coroutines()[0].spawned_by(), one.coroutines()[0].spawned_by_name()),
        (Some(first), None)
    );
}

/// A raw coroutine's labels are its own. No dump lists it, and its task's labels stay what they are.
#[test]
fn dump_labels_of_a_raw_coroutine_are_its_own() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let coroutine = runtime.go(|| {
        inspect::label("whose", "the task's");
        let body = |_: &coro::raw::Yielder<(), ()>, ()| {
            inspect::label("whose", "the raw coroutine's");
            inspect::label("more", 1);
            coro::park();
        };
        let run = |raw: &coro::raw::Coroutine<(), (), ()>| _ = raw.resume(());
        coro::raw::with(64 << 10, body, run).unwrap();
    });
    let dump = dump_when_parked(std::slice::from_ref(&coroutine));
    let labels: Vec<_> = dump.coroutines()[0].labels().collect();
    assert_eq!(labels, [("whose", "the task's")]);
    coroutine.handle().unpark();
    coroutine.join().unwrap();
}
