//! A server of redis, with a thousand coroutines that share eight connections, and one that listens.
//!
//! ```text
//! redis redis://127.0.0.1:6379/
//! ```
//!
//! [`world::redis_connection`] is all that stands between the two crates.

use coro::{go, scope};
use redis::{Commands, RedisResult};
use world::redis_connection::{Connection, Pool};

const VISITS: usize = 1000;

/// A connection each would be more than a server likes.
const CONNECTIONS: usize = 8;

fn main() -> RedisResult<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let pool = Pool::new(&url, CONNECTIONS)?;
    pool.get()?.del::<_, ()>(&["visits", "pages"])?;

    // A subscription occupies its connection, so this one is not of the pool.
    let messages = Connection::open(pool.info())?.subscribe("milestones")?;
    let listener = go(move || {
        let hundreds = messages.take(VISITS / 100);
        hundreds.map(|message| message?.get_payload()).collect::<RedisResult<Vec<u64>>>()
    });

    let (pool, pages) = (&pool, ["home", "news", "help"]);
    scope(|scope| {
        let visits = pages.iter().cycle().take(VISITS).map(|page| scope.go(|| visit(pool, page)));
        let visits: Vec<_> = visits.collect();
        visits.into_iter().try_for_each(|visit| visit.join().expect("it does not panic"))
    })?;

    let mut milestones = listener.join().expect("it does not panic")?;
    // Those who publish them overtake one another.
    milestones.sort();
    println!("milestones: {milestones:?}");
    let pages: Vec<(String, u64)> = pool.get()?.zrevrange_withscores("pages", 0, -1)?;
    for (page, visits) in pages {
        println!("{page}: {visits}");
    }
    Ok(())
}

/// Counts a visit. The two commands are one transaction, and one round trip.
fn visit(pool: &Pool, page: &str) -> RedisResult<()> {
    let mut redis = pool.get()?;
    let mut count = redis::pipe();
    count.atomic().incr("visits", 1).zincr("pages", page, 1).ignore();
    let (visits,): (u64,) = count.query(&mut redis)?;
    if visits.is_multiple_of(100) {
        redis.publish::<_, _, ()>("milestones", visits)?;
    }
    Ok(())
}
