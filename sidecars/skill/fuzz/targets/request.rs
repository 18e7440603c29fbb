//! Whatever a caller sends as a body, what is accepted can be given to a program, and only to one.

use charly_skill::RunRequest;

pub(crate) fn fuzz(data: &[u8]) {
    let Ok(request) = RunRequest::parse(data) else { return };
    let RunRequest { args, env, stdin: _, timeout, encoding: _ } = &request;
    assert!(*timeout >= 1);
    for text in args.iter().chain(env.keys()).chain(env.values()) {
        assert!(!text.contains('\0') && text.len() < 128 * 1024);
    }
    for name in env.keys() {
        let rest = name.strip_prefix("SKILL_").unwrap();
        assert!(!rest.is_empty() && rest.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()), "{name:?}");
        assert_ne!(rest, "TOKEN");
    }
    // Another reader of the same text, if it takes what is beyond the known fields, sees the same values.
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        assert_eq!(value.get("args").and_then(|args| args.as_array()).map_or(0, Vec::len), args.len());
        assert_eq!(value.get("env").and_then(|env| env.as_object()).map_or(0, serde_json::Map::len), env.len());
    }
}
