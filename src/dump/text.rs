//! A dump as text.

use std::fmt;

use super::coroutine::DumpedCoroutine;
use super::dump::Dump;
use super::group::DumpGroup;
use super::names::DumpFrame;

/// So many coroutines of a group are named at most.
const NAMED: usize = 10;

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.len();
        if shown == self.total {
            write!(f, "coro: {shown} coroutines have started")?;
        } else {
            write!(f, "coro: {shown} of {} coroutines that have started", self.total)?;
        }
        writeln!(f, ", {} are fresh", self.fresh())?;
        for remark in self.remarks() {
            writeln!(f, "coro: {remark}")?;
        }
        for (place, count) in &self.fresh.places {
            writeln!(
                f,
                "coro: {count} fresh ones spawned at {place} wait for a stack or a worker"
            )?;
        }
        let groups = self.groups();
        for group in groups.iter().take(self.limit) {
            write_group(group, self.limit.min(NAMED), f)?;
        }
        let rest = groups.iter().skip(self.limit);
        let (more, coroutines) =
            rest.fold((0, 0), |(more, sum), group| (more + 1, sum + group.coroutines().len()));
        if more > 0 {
            writeln!(f, "\nand {more} more groups, of {coroutines} coroutines")?;
        }
        Ok(())
    }
}

fn write_group(group: &DumpGroup<'_>, named: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let count = group.coroutines().len();
    write!(f, "\n{count} {}", group.state())?;
    let waits_for = group.waits_for();
    if let Some(waits_for) = &waits_for {
        write!(f, ", waiting for {waits_for}")?;
    }
    write!(f, "\n  spawned at {}", group.spawned_at())?;
    let spawner = group.spawned_by();
    if spawner.is_some() {
        write_spawner(group.coroutines()[0], f)?;
    }
    writeln!(f)?;
    let ages: Vec<_> = group.ages().map(|(age, count)| format!("{count} for {age}")).collect();
    if !ages.is_empty() {
        writeln!(f, "  parked: {}", ages.join(", "))?;
    }
    for coroutine in group.coroutines().iter().take(named) {
        write_coroutine(coroutine, waits_for.as_deref(), spawner.is_some(), f)?;
    }
    if count > named {
        writeln!(f, "  and {} more", count - named)?;
    }
    for (number, frame) in group.frames().enumerate() {
        write_frame(number, frame, f)?;
    }
    match group.frames_end() {
        Some(end) => writeln!(f, "      {end}"),
        None => Ok(()),
    }
}

/// " by coroutine 7 'listener'".
fn write_spawner(coroutine: &DumpedCoroutine, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(id) = coroutine.spawned_by() else { return Ok(()) };
    write!(f, " by coroutine {id}")?;
    match coroutine.spawned_by_name() {
        Some(name) => write!(f, " '{name}'"),
        None => Ok(()),
    }
}

fn write_coroutine(
    coroutine: &DumpedCoroutine,
    groups_wait: Option<&str>,
    has_groups_spawner: bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "  coroutine {}", coroutine.id())?;
    if let Some(name) = coroutine.name() {
        write!(f, " '{name}'")?;
    }
    if let Some(parked_for) = coroutine.parked_for() {
        write!(f, ", for {parked_for:.1?}")?;
    }
    if let Some(waits_for) = coroutine.waits_for()
        && Some(&*waits_for) != groups_wait
    {
        write!(f, ", for {waits_for}")?;
    }
    if !has_groups_spawner && coroutine.spawned_by().is_some() {
        f.write_str(", spawned")?;
        write_spawner(coroutine, f)?;
    }
    if let Some(used) = coroutine.stack_used() {
        write!(f, ", {used} bytes of stack")?;
    }
    if let Some(span) = coroutine.span() {
        write!(f, ", in {span}")?;
    }
    for (name, text) in coroutine.labels() {
        write!(f, ", {name}={text:?}")?;
    }
    writeln!(f)
}

/// As a backtrace of std's has it. What is inlined into a function has no number.
fn write_frame(number: usize, frame: &DumpFrame, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if frame.functions().is_empty() {
        return writeln!(f, "  {number:4}: {:#x}", frame.address());
    }
    for (index, function) in frame.functions().iter().enumerate() {
        match index {
            0 => writeln!(f, "  {number:4}: {}", function.name())?,
            _ => writeln!(f, "        {}", function.name())?,
        }
        if let (Some(file), Some(line)) = (function.file(), function.line()) {
            writeln!(f, "             at {}:{line}", file.display())?;
        }
    }
    Ok(())
}
