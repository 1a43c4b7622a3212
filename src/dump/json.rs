//! A dump as JSON (RFC 8259).

use super::coroutine::DumpedCoroutine;
use super::dump::Dump;
use super::group::DumpGroup;
use super::names::{DumpFrame, DumpFunction};
use crate::base::json::Json;

impl Dump {
    /// The dump as JSON: one object.
    ///
    /// ```json
    /// {
    ///   "started": 1, "shown": 1, "fresh": 0, "fresh_at": [], "unlisted": 0, "remarks": [],
    ///   "groups": [{
    ///     "count": 1, "state": "parked", "waits_for": "park", "spawned_at": "src/main.rs:7:9",
    ///     "coroutines": [{
    ///       "id": 3, "name": null, "waits_for": "park", "parked_for_ms": 12, "stack_used": 1504,
    ///       "spawned_by": {"id": 1, "name": "listener"}, "span": null, "labels": {"request": "/index"}
    ///     }],
    ///     "frames": [{
    ///       "address": "0x55d0c0ffee00",
    ///       "functions": [{"name": "main::work", "file": "src/main.rs", "line": 9}]
    ///     }],
    ///     "frames_end": null
    ///   }],
    ///   "more_groups": 0
    /// }
    /// ```
    ///
    /// # Examples
    ///
    /// ```
    /// let json = coro::inspect::dump().to_json();
    /// assert!(json.starts_with("{\"started\":"));
    /// ```
    pub fn to_json(&self) -> String {
        let mut json = Json::new();
        let groups = self.groups();
        json.object(|json| {
            json.member("started", self.total);
            json.member("shown", self.len());
            json.member("fresh", self.fresh());
            json.key("fresh_at");
            json.array(&self.fresh.places, |json, (place, count)| {
                json.object(|json| {
                    json.text_member("place", Some(place));
                    json.member("count", count);
                });
            });
            json.member("unlisted", self.unlisted());
            json.key("remarks");
            json.array(self.remarks(), |json, remark| json.text(remark));
            json.key("groups");
            let shown = groups.iter().take(self.limit);
            json.array(shown, |json, group| write_group(json, group, self.limit));
            json.member("more_groups", groups.len().saturating_sub(self.limit));
        });
        json.into_text()
    }
}

fn write_group(json: &mut Json, group: &DumpGroup<'_>, limit: usize) {
    json.object(|json| {
        json.member("count", group.coroutines().len());
        json.text_member("state", Some(group.state()));
        json.text_member("waits_for", group.waits_for());
        json.text_member("spawned_at", Some(group.spawned_at()));
        json.key("coroutines");
        json.array(group.coroutines().iter().take(limit), |json, one| write_coroutine(json, one));
        json.key("frames");
        json.array(group.frames(), write_frame);
        json.text_member("frames_end", group.frames_end());
    });
}

fn write_coroutine(json: &mut Json, coroutine: &DumpedCoroutine) {
    json.object(|json| {
        json.member("id", coroutine.id());
        json.text_member("name", coroutine.name());
        json.text_member("waits_for", coroutine.waits_for());
        json.number_member("parked_for_ms", coroutine.parked_for().map(|time| time.as_millis()));
        json.number_member("stack_used", coroutine.stack_used());
        match coroutine.spawned_by() {
            Some(id) => {
                json.key("spawned_by");
                json.object(|json| {
                    json.member("id", id);
                    json.text_member("name", coroutine.spawned_by_name());
                });
            }
            None => json.member("spawned_by", "null"),
        }
        json.text_member("span", coroutine.span());
        json.key("labels");
        json.object(|json| {
            coroutine.labels().for_each(|(name, text)| json.text_member(name, Some(text)));
        });
    });
}

fn write_frame(json: &mut Json, frame: &DumpFrame) {
    json.object(|json| {
        json.text_member("address", Some(format_args!("{:#x}", frame.address())));
        json.key("functions");
        json.array(frame.functions(), write_function);
    });
}

fn write_function(json: &mut Json, function: &DumpFunction) {
    json.object(|json| {
        json.text_member("name", Some(function.name()));
        json.text_member("file", function.file().map(|file| file.display()));
        json.number_member("line", function.line());
    });
}
