//! A terminal that tmux keeps.

use std::process::{Command, Stdio};

use super::wait_for;

pub(crate) fn is_there() -> bool {
    Command::new("tmux")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A terminal of a server of its own, which ends with it.
pub(crate) struct Terminal {
    server: String,
}

impl Terminal {
    /// A terminal of this size, in which a shell runs `command`.
    pub(crate) fn start(width: u16, height: u16, command: &str) -> Terminal {
        let terminal = Terminal { server: format!("coro-top-{}", std::process::id()) };
        let (width, height) = (width.to_string(), height.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &width, "-y", &height, "sh", "-c", command]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            // No configuration, and UTF-8 whatever the locale.
            .args(["-u", "-f", "/dev/null", "-L", &self.server])
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// What it shows, as soon as that is so.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        wait_for(what, || self.tmux(&["capture-pane", "-p"]), is_so)
    }

    /// What it shows, with the sequences for colours.
    pub(crate) fn colours(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Whether a program has the whole screen, and gives it back later.
    pub(crate) fn is_in_use(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let server = ["-L", &self.server, "kill-server"];
        let _ = Command::new("tmux").args(server).stderr(Stdio::null()).status();
    }
}
