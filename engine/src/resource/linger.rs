//! Whether a user's services run while nobody is logged in.

use charly_ir::facts::Init;
use charly_ir::message::Problem;

use super::Looked;
use crate::tool::Tool;
use crate::venue::Venue;
use crate::worker::WorkError;

/// Looks at the switch.
pub(super) fn observe(venue: &Venue, user: &str) -> bool {
    venue.root.outside(&format!("/var/lib/systemd/linger/{user}")).exists()
}

/// Compares the switch with what is wanted.
pub(super) fn look(venue: &Venue, user: &str, on: bool) -> Looked {
    let actual = observe(venue, user);
    let difference = (actual != on).then(|| if on { "it is off" } else { "it is on" }.to_owned());
    Looked { difference, absent: !actual }
}

/// Turns the switch, and waits until the user's manager answers.
///
/// logind lets a user turn its own switch only where policy does; elsewhere root must, which is tried without a question.
pub(super) fn converge(venue: &Venue, user: &str, on: bool) -> Result<(), WorkError> {
    if venue.facts.init != Init::Systemd {
        return Ok(());
    }
    let verb = if on { "enable-linger" } else { "disable-linger" };
    let own = Tool::new("loginctl").args(["--no-ask-password", verb, user]).run(venue)?;
    if !own.is_success() {
        let root = Tool::new("sudo").args(["-n", "loginctl", verb, user]).run(venue);
        if !root.is_ok_and(|output| output.is_success()) {
            let problem = Problem::new(format!("cannot {verb} for `{user}`"))
                .because(own.stderr.trim().to_owned())
                .hint(format!("`sudo loginctl {verb} {user}` does it; then run the same command again"));
            return Err(WorkError::Program(Box::new(problem)));
        }
    }
    if on {
        wait_for_bus(venue)?;
    }
    Ok(())
}

/// The user's manager is started by the switch, and takes a moment to listen. systemd itself says when it does.
fn wait_for_bus(venue: &Venue) -> Result<(), WorkError> {
    let unit = format!("user@{}.service", venue.facts.user.uid);
    // `start` of a unit that is starting already waits for it and needs no rights where it is up.
    let _ = Tool::new("systemctl").args(["start", "--", &unit]).run(venue)?;
    let bus = venue.root.outside(&format!("/run/user/{}/bus", venue.facts.user.uid));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !bus.exists() {
        if std::time::Instant::now() > deadline {
            let problem = Problem::new(format!("`{unit}` does not come up"))
                .because(format!("`{}` does not appear", bus.display()))
                .hint("user services need a user bus: on Debian the package `dbus-user-session` brings it");
            return Err(WorkError::Program(Box::new(problem)));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}
