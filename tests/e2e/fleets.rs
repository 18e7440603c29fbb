//! Several machines side by side, by name and by group, and machines that a project declares.

use crate::kit::Result;
use crate::remote::Remote;

#[test]
fn several_are_worked_on_side_by_side_and_end_as_the_worst_of_them() -> Result {
    let Some(remote) = Remote::new("fleet")? else { return Ok(()) };
    let project = remote.copy_of_the_project();
    let (address, port) = (remote.world.guest.address(), remote.world.guest.port());
    let (at, through) = (format!("{address}:{port}"), remote.proxy.address().port());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let deploys = format!(
        "deploy:
  one: {{target: local, host: \"deploy@{at}\", group: [front, all], candy: [hello]}}
  two: {{target: local, host: \"root@{at}\", group: [front]}}
  gone: {{target: local, host: \"deploy@127.0.0.1:{nobody}\", group: [all]}}
vm:
  web: {{source: {{bootstrap: {{distro: debian}}}}, ssh: {{user: cshy, port: {through}}}}}
"
    );
    let kept = std::fs::read_to_string(project.path().join("charly.yml")).unwrap();
    let head = kept.split("deploy:").next().unwrap().to_owned();
    std::fs::write(project.path().join("charly.yml"), format!("{head}{deploys}")).unwrap();
    let run = |arguments: &str| remote.run("deploy", &format!("-C {} {arguments}", project.path().display()));
    let ends = |said: &crate::kit::Said| {
        let items = said.lines.iter().filter_map(|line| line.get("item"));
        items
            .map(|item| (item["deploy"].as_str().unwrap().to_owned(), item["exit"].as_i64().unwrap()))
            .collect::<Vec<_>>()
    };
    let pairs =
        |pairs: &[(&str, i64)]| pairs.iter().map(|(name, exit)| ((*name).to_owned(), *exit)).collect::<Vec<_>>();

    let said = run("bundle add @front hello -y").exits(0);
    assert_eq!(ends(&said), pairs(&[("one", 0), ("two", 0)]), "{said}");
    for home in ["/home/deploy", "/root"] {
        remote.world.ok("root", &format!("test -e {home}/.local/bin/charly-hello"));
    }
    // One that cannot be reached holds up nobody, and is what the whole ends as.
    let said = run("bundle add gone,one,two,one hello -y --parallel 2").exits(4);
    assert_eq!(ends(&said), pairs(&[("gone", 4), ("one", 0), ("two", 0)]), "{said}");
    let said = run("bundle add @all failing -y").exits(1);
    assert_eq!(ends(&said), pairs(&[("gone", 4), ("one", 1)]), "the worst is a machine left half done: {said}");
    let refused = run("bundle add @back hello -y").exits(3).error();
    assert!(refused.contains("no deploy is of the group `back`") && refused.contains("`@front`"), "{refused}");
    std::fs::write(project.path().join("charly.yml"), format!("{head}candies: 1\n{deploys}")).unwrap();
    let wrong = run("bundle add @front hello -y").exits(3).to_string();
    assert!(wrong.contains("findings") && wrong.contains("candies"), "{wrong}");
    std::fs::write(project.path().join("charly.yml"), format!("{head}{deploys}")).unwrap();
    // Nobody can be asked for several at once.
    let said = run("bundle add @front everything").exits(5);
    assert_eq!(ends(&said), pairs(&[("one", 5), ("two", 5)]), "{said}");

    // A machine that is declared, and that charly has not made.
    run("bundle add vm:web hello -y").exits(0);
    remote.world.ok("root", "test -e /home/cshy/.local/bin/charly-hello");

    // People read a line each, and a table.
    let table = remote.shown("deploy", &format!("-C {} bundle del @front,vm:web -y", project.path().display()));
    assert_eq!(table.0, 0, "{table:?}");
    for name in ["one", "two", "vm:web"] {
        assert!(table.1.lines().any(|line| line.starts_with(name) && line.contains("taken away")), "{table:?}");
    }
    assert_eq!(remote.world.traces(), "");
    Ok(())
}
