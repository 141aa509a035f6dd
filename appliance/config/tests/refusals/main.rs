//! What the reader and the checks refuse: with line, key and a sentence that helps; several offences at once. By theme:
//! the text itself, zones with their listeners, the dial plan.

mod dialplan;
mod reading;
mod zones;

use appliance_config::{ConfigError, Document};

const EXAMPLE: &str = include_str!("../../example.toml");

fn refused(text: &str) -> Vec<ConfigError> {
    Document::parse(text, "gatehouse.toml").expect_err("must be refused")
}

/// The example with one line changed, and the number of that line.
fn changed(line: &str, by: &str) -> (String, u32) {
    let at = EXAMPLE
        .lines()
        .position(|have| have.split('#').next().unwrap_or("").trim_end() == line)
        .unwrap_or_else(|| panic!("no line `{line}` in the example"));
    let text: Vec<&str> = EXAMPLE
        .lines()
        .enumerate()
        .map(|(i, have)| if i == at { by } else { have })
        .collect();
    (text.join("\n"), u32::try_from(at).expect("short") + 1)
}

/// One changed line makes exactly one offence, at that line, at `key`, with `words` in the sentence.
fn one(line: &str, by: &str, key: &str, words: &str) {
    let (text, number) = changed(line, by);
    let errors = refused(&text);
    let [error] = errors.as_slice() else {
        panic!("`{by}`: one offence expected, got\n{}", list(&errors));
    };
    assert_eq!(error.key, key, "`{by}`: {error}");
    // What is wrong with a table as a whole stands at its header, the line above.
    let header = u32::from(
        EXAMPLE
            .lines()
            .nth(number as usize - 2)
            .is_some_and(|above| above.starts_with('[')),
    );
    assert!(
        (number - header..=number).contains(&error.line),
        "`{by}` is line {number}: {error}"
    );
    assert!(error.sentence.english.contains(words), "`{by}`: {error}");
    assert!(
        !error.sentence.german.is_empty() && error.sentence.german != error.sentence.english,
        "{error}"
    );
}

fn list(errors: &[ConfigError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
