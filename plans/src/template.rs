//! The text of a new candy.

use crate::schema::{CalVer, Name};

/// Returns the text of a starter candy: it is complete, and its comments say what else there is.
pub fn candy_template(name: &Name, version: &CalVer) -> String {
    TEMPLATE.replace("NAME", name.as_str()).replace("VERSION", version.as_str())
}

const TEMPLATE: &str = r#"# A candy: one layer of a machine's software. Every key is described in the guide to the file format.
candy:
  name: NAME
  version: VERSION
  description: |
    What NAME is for, in one line
    And whatever else a person should know before adding it.
  status: testing

  # Candies that must come first.
  # require: [nodejs]

  # Packages with one name everywhere stand here, others under their distribution:
  # package: [git]
  # distro:
  #   "debian,ubuntu": {package: [libfoo1]}
  #   fedora: {package: [foo-libs]}

  # Variables and folders in PATH, for login shells.
  # env: {NAME_HOME: "~/.NAME"}
  # path_append: ["~/.NAME/bin"]

  # A service of your own, or of a package (`use_packaged: foo.service`).
  # service:
  #   - {name: NAME, exec: /usr/bin/NAME, restart: on-failure, enable: true, scope: user}

  # What is done, and what is true afterwards, in order.
  plan:
    - run: a file in the home folder
      write: "~/.config/NAME/greeting"
      run_as: "${USER}"
      content: |
        Hello from NAME.

    # A command says what it leaves behind, so that it can be taken away again.
    # - run: the database
    #   command: foo init --dir "$HOME/.NAME/db"
    #   run_as: "${USER}"
    #   uninstall: ["~/.NAME/db"]

    - check: the file is there
      file: "~/.config/NAME/greeting"
      contains: Hello
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use crate::validate::validate_text;

    #[test]
    fn a_new_candy_is_valid() {
        let (name, version) = ("mine".parse().unwrap(), "2026.165.0930".parse().unwrap());
        let found = validate_text(&Source::new("mine/charly.yml", candy_template(&name, &version)));
        assert!(found.is_empty(), "{}", found.render(false));
        // What is commented out is valid, too. Its words begin after `# `, sentences do not look like keys.
        let text = candy_template(&name, &version);
        let uncommented: String = text
            .lines()
            .map(|line| match line.trim_start().strip_prefix("# ") {
                Some(rest) if !rest.ends_with(['.', ':']) || rest == "service:" || rest == "distro:" => {
                    format!("{}{rest}\n", &line[..line.len() - line.trim_start().len()])
                }
                _ => format!("{line}\n"),
            })
            .collect();
        assert!(uncommented.contains("\n  require: [nodejs]\n") && uncommented.contains("\n    - run: the database\n"));
        let found = validate_text(&Source::new("mine/charly.yml", uncommented));
        assert!(found.is_empty(), "{}", found.render(false));
    }
}
