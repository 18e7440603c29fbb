//! The users of an image, and the one it is for.

use charly_ir::Text;
use charly_ir::facts::User;
use charly_ir::plan::{Action, CandyPlan, Content, Op, Phase, Placement, Scope, Step, Venue};
use serde::{Deserialize, Serialize};

/// The texts of an image's account files; empty where it has none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Accounts {
    /// `/etc/passwd`
    pub passwd: String,
    /// `/etc/group`
    pub group: String,
    /// `/etc/shadow`
    pub shadow: String,
    /// The group that `/etc/shadow` belongs to, and its mode.
    pub shadow_group: u32,
    /// The permission bits of `/etc/shadow`.
    pub shadow_mode: u32,
}

/// What a box says about its user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The name; or a number, for a user that needs no name.
    pub name: Option<String>,
    /// The number.
    pub uid: Option<u32>,
    /// The number of the group.
    pub gid: Option<u32>,
    /// The home folder.
    pub home: Option<String>,
}

/// What a box says about its user is not so in its base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnotherUser {
    /// The user is there, and is another.
    #[error("the base has a user `{name}` whose {what} is {has}, not {asked}")]
    Differs {
        /// Its name.
        name: String,
        /// What differs.
        what: &'static str,
        /// What it is.
        has: String,
        /// What was asked for.
        asked: String,
    },
    /// The number is somebody else's.
    #[error("the base has a user `{name}` with the number {uid}, which `{asked}` was to have")]
    Number {
        /// Whose it is.
        name: String,
        /// The number.
        uid: u32,
        /// Who was to have it.
        asked: String,
    },
}

/// The number of a user that has a name alone, as distributions give it to the first one: the first that nobody has from there on.
const FIRST: u32 = 1000;

/// A number that distributions keep for nobody in particular, and that no user has.
const LAST: u32 = 65_534;

impl Accounts {
    /// Finds a user by name or number.
    pub fn user(&self, name: &str) -> Option<User> {
        let number: Option<u32> = name.parse().ok();
        self.passwd.lines().filter_map(parse).find(|user| user.name == name || number == Some(user.uid))
    }

    /// Finds a group's number by its name or number.
    pub fn group(&self, name: &str) -> Option<u32> {
        if let Ok(number) = name.parse() {
            return Some(number);
        }
        let fields = self.group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        fields.filter(|fields| fields.first() == Some(&name)).find_map(|fields| fields.get(2)?.parse().ok())
    }

    /// Returns the user an image is for, and the steps that make it where the base has none such.
    pub fn meet(&self, wish: &Wish, base: Option<&str>) -> Result<(User, Option<CandyPlan>), AnotherUser> {
        let by_name = wish.name.as_deref().or_else(|| base.filter(|_| wish.uid.is_none()));
        let name = match (by_name, wish.uid) {
            (Some(name), _) => name.split(':').next().unwrap_or_default().to_owned(),
            (None, Some(uid)) => uid.to_string(),
            (None, None) => "root".to_owned(),
        };
        if let Some(user) = self.user(&name) {
            return Ok((unchanged(user, wish)?, None));
        }
        if name == "root" || name == "0" {
            let (name, home, shell) = ("root".to_owned(), "/root".to_owned(), "/bin/sh".to_owned());
            return Ok((User { name, uid: 0, gid: 0, home, shell }, None));
        }
        let number: Option<u32> = name.parse().ok();
        let uid = match wish.uid.or(number) {
            // Two names for a number: whoever logs in would be taken for the other.
            Some(uid) => match self.user(&uid.to_string()) {
                Some(User { name: other, .. }) => {
                    return Err(AnotherUser::Number { name: other, uid, asked: name });
                }
                None => uid,
            },
            None => self.free(wish.gid.is_none()),
        };
        let gid = wish.gid.unwrap_or(uid);
        let home = wish.home.clone().unwrap_or_else(|| format!("/home/{name}"));
        let user = User { name, uid, gid, home, shell: "/bin/bash".into() };
        if number.is_some() {
            return Ok((user, None));
        }
        let steps = self.steps(&user);
        Ok((user, Some(steps)))
    }

    /// Returns the first number that no user has, nor a group where the user is to have one of the same number.
    fn free(&self, with_group: bool) -> u32 {
        let is_taken = |number: &u32| {
            let number = number.to_string();
            let has = |text: &str| text.lines().any(|line| line.split(':').nth(2) == Some(&number));
            has(&self.passwd) || with_group && has(&self.group)
        };
        (FIRST..LAST).find(|number| !is_taken(number)).unwrap_or(FIRST)
    }

    /// Returns a candy that makes a user.
    fn steps(&self, user: &User) -> CandyPlan {
        let User { name, uid, gid, home, shell } = user;
        let mut steps = Vec::new();
        let mut add = |path: &str, scope: Scope, mode: u32, text: &str, line: String| {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            let content = Content::Text(Text::new(format!("{text}{end}{line}\n")));
            let file = Placement { path: Text::new(path), mode, content };
            steps.push(step(path, scope, Action::File(file)));
        };
        add("/etc/passwd", Scope::System, 0o644, &self.passwd, format!("{name}:x:{uid}:{gid}::{home}:{shell}"));
        if self.group(name).is_none()
            && !self.group.lines().any(|line| line.split(':').nth(2) == Some(&gid.to_string()))
        {
            add("/etc/group", Scope::System, 0o644, &self.group, format!("{name}:x:{gid}:"));
        }
        if !self.shadow.is_empty() {
            let scope = Scope::Other(format!("0:{}", self.shadow_group));
            add("/etc/shadow", scope, self.shadow_mode, &self.shadow, format!("{name}:!:0:0:99999:7:::"));
        }
        let folder = Op::Mkdir { path: Text::new(home.clone()), mode: 0o755 };
        steps.push(step("home", Scope::Other(format!("{uid}:{gid}")), Action::Op(folder)));
        CandyPlan {
            name: "charly-user".into(),
            version: "2026.001.0000".into(),
            summary: format!("The user {name}"),
            requires: Vec::new(),
            steps,
            checks: Vec::new(),
            artifacts: Vec::new(),
            secrets: std::collections::BTreeSet::new(),
            runtime: std::collections::BTreeMap::new(),
        }
    }
}

fn step(id: &str, scope: Scope, action: Action) -> Step {
    let (title, venue, gate, phase) =
        (format!("make the image's user: {id}"), Venue::HostNative, None, Phase::Packages);
    Step { id: id.to_owned(), title, scope, venue, gate, phase, action }
}

/// Refuses a wish that a user who is there does not meet.
fn unchanged(user: User, wish: &Wish) -> Result<User, AnotherUser> {
    let differs = |what, has: String, asked: Option<String>| match asked {
        Some(asked) if asked != has => Err(AnotherUser::Differs { name: user.name.clone(), what, has, asked }),
        _ => Ok(()),
    };
    differs("number", user.uid.to_string(), wish.uid.map(|uid| uid.to_string()))?;
    differs("group", user.gid.to_string(), wish.gid.map(|gid| gid.to_string()))?;
    differs("home folder", user.home.clone(), wish.home.clone())?;
    Ok(user)
}

fn parse(line: &str) -> Option<User> {
    let fields: Vec<_> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    let (name, home, shell) = ((*name).to_owned(), (*home).to_owned(), (*shell).to_owned());
    Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home, shell })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/bash\nann:x:1001:1001::/home/ann:/bin/sh".into(),
            group: "root:x:0:\nann:x:1001:\nwheel:x:10:ann\n".into(),
            shadow: "root:*:19000:0:99999:7:::\n".into(),
            shadow_group: 42,
            shadow_mode: 0o640,
        }
    }

    fn wish(name: Option<&str>, uid: Option<u32>) -> Wish {
        Wish { name: name.map(str::to_owned), uid, ..Wish::default() }
    }

    #[test]
    fn a_user_is_the_one_asked_for_or_the_bases() {
        for (wish, base, name, uid, is_made) in [
            (wish(None, None), None, "root", 0, false),
            (wish(None, None), Some("ann"), "ann", 1001, false),
            (wish(None, None), Some("1001:1001"), "ann", 1001, false),
            (wish(Some("ann"), None), None, "ann", 1001, false),
            (wish(None, Some(1001)), Some("root"), "ann", 1001, false),
            (wish(None, Some(4)), None, "4", 4, false),
            (wish(Some("bob"), None), None, "bob", 1000, true),
            (wish(Some("bob"), Some(7)), None, "bob", 7, true),
        ] {
            let (user, made) = accounts().meet(&wish, base).unwrap();
            assert_eq!((user.name.as_str(), user.uid, made.is_some()), (name, uid, is_made), "{wish:?}");
        }
    }

    #[test]
    fn a_user_is_made_by_files_alone() {
        let (_, made) = accounts().meet(&wish(Some("bob"), None), None).unwrap();
        let steps = made.unwrap().steps;
        let texts = steps.iter().filter_map(|step| step.action.placement()).map(|file| match &file.content {
            Content::Text(text) => text.as_str().lines().last().unwrap_or_default().to_owned(),
            other => panic!("{other:?}"),
        });
        let texts = texts.collect::<Vec<_>>();
        assert_eq!(texts, ["bob:x:1000:1000::/home/bob:/bin/bash", "bob:x:1000:", "bob:!:0:0:99999:7:::"]);
        assert_eq!(steps.last().unwrap().scope, Scope::Other("1000:1000".into()));
    }

    #[test]
    fn a_user_who_is_another_is_refused() {
        for (wish, want) in [
            (wish(Some("ann"), Some(5)), "the base has a user `ann` whose number is 1001, not 5"),
            (wish(Some("bob"), Some(1001)), "the base has a user `ann` with the number 1001, which `bob` was to have"),
        ] {
            assert_eq!(accounts().meet(&wish, None).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn a_user_gets_a_number_that_nobody_has() {
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n".into(),
            group: "root:x:0:\nubuntu:x:1000:\nusers:x:1001:\n".into(),
            ..Accounts::default()
        };
        let (user, made) = accounts.meet(&wish(Some("app"), None), None).unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str(), made.is_some()), (1002, 1002, "/home/app", true));
        let wish = Wish { name: Some("app".into()), gid: Some(1001), ..Wish::default() };
        let (user, _) = accounts.meet(&wish, None).unwrap();
        assert_eq!((user.uid, user.gid), (1001, 1001));
    }
}
