//! What shells complete from.

use std::process::Command;

use crate::support::{eap, run};

#[test]
fn bash_finishes_a_command_and_an_option() {
    let script = run(&mut eap(&["completions", "bash"])).expect(0).stdout;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("eap.bash");
    std::fs::write(&file, script).unwrap();
    let complete = |words: &str, at: usize| {
        // As bash calls it: the word that is begun, and the one before.
        let call = format!("_eap eap \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{at} - 1]}}\"");
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={at}; {call}; echo \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        run(Command::new("bash").args(["--noprofile", "--norc", "-c", &line])).expect(0).stdout.trim().to_owned()
    };
    assert_eq!(complete("eap dea", 1), "dead");
    assert_eq!(complete("eap dead re", 2), "requeue");
    assert_eq!(complete("eap task submit --bat", 3), "--batch");
}

#[test]
fn every_shell_has_its_script_and_none_holds_what_is_in_the_environment() {
    for (shell, start) in [
        ("bash", "_eap()"),
        ("zsh", "#compdef eap"),
        ("fish", "function __fish_eap"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[eap]"),
    ] {
        let script = run(eap(&["completions", shell]).env("EAP_URL", "http://hunter2")).expect(0).stdout;
        assert!(script.contains(start) && script.contains("requeue"), "{shell}: {script}");
        assert!(!script.contains("hunter2"), "{shell}");
    }
    run(&mut eap(&["completions"])).expect(2);
    run(&mut eap(&["completions", "command.com"])).expect(2);
}
