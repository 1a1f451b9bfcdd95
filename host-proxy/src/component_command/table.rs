//! Answers of the private listener as text.

use std::fmt::Write as _;

use serde_json::Value;

/// Digits of a digest that tell files apart for people.
const SHORT: usize = 12;

pub(super) fn list(answer: &Value) -> String {
    let rows = answer["components"].as_array().cloned().unwrap_or_default();
    let rows = rows.iter().map(|row| {
        let from = if row["swapped"] == true { "swap" } else { "manifest" };
        let serves = match words(&row["routes"]) {
            routes if routes.is_empty() => format!("a part of {}", words(&row["partOf"])),
            routes => routes,
        };
        [text(&row["name"]), short(&row["digest"]), from.to_owned(), serves]
    });
    let head = ["NAME", "SHA-256", "FROM", "SERVES"].map(str::to_owned);
    aligned(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

pub(super) fn detail(answer: &Value) -> String {
    let origin = if answer["swapped"] == true { "a swap" } else { "the manifest" };
    let mut shown = format!("{}, from {origin}\n", text(&answer["name"]));
    for (name, member) in [("routes", "routes"), ("part of", "partOf"), ("before it", "previous")] {
        let _ = writeln!(shown, "{name:<10} {}", words(&answer[member]));
    }
    shown.push_str(&file(answer));
    shown
}

pub(super) fn file(answer: &Value) -> String {
    let mut shown = String::new();
    for (name, value) in [
        ("sha-256", text(&answer["digest"])),
        ("bytes", answer["sizeBytes"].to_string()),
        ("needs", words(&answer["needs"])),
        ("exports", words(&answer["exports"])),
        ("imports", words(&answer["imports"])),
    ] {
        let _ = writeln!(shown, "{name:<10} {value}");
    }
    shown.trim_end().to_owned()
}

pub(super) fn swapped(answer: &Value) -> String {
    let (name, digest) = (text(&answer["component"]), short(&answer["digest"]));
    if answer["digest"] == answer["replaced"] {
        return format!("{name} serves {digest} already");
    }
    let mut shown = format!("{name} serves {digest} in place of {}", short(&answer["replaced"]));
    let recomposed = words(&answer["recomposed"]);
    if recomposed != name {
        let _ = write!(shown, ", in {recomposed}");
    }
    if answer["audited"] == false {
        shown.push_str("; the audit log did not take it, see the log of zlh");
    }
    shown
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn short(value: &Value) -> String {
    text(value).chars().take(SHORT).collect()
}

fn words(value: &Value) -> String {
    let words: Vec<_> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    words.join(", ")
}

/// Rows whose columns begin below each other.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_has_its_columns_below_each_other() {
        let answer = json!({ "components": [
            { "name": "auth", "digest": "0123456789abcdef", "swapped": false,
              "routes": ["/api/auth/...", "/internal/users"], "partOf": [] },
            { "name": "identity", "digest": "fedcba9876543210", "swapped": true,
              "routes": [], "partOf": ["auth", "dev"] },
        ]});

        assert_eq!(
            list(&answer),
            "NAME      SHA-256       FROM      SERVES\n\
             auth      0123456789ab  manifest  /api/auth/..., /internal/users\n\
             identity  fedcba987654  swap      a part of auth, dev"
        );
    }

    #[test]
    fn what_was_swapped_is_said_with_what_it_replaced() {
        let answer = |replaced: &str, recomposed: &[&str], audited: bool| {
            swapped(&json!({ "component": "identity", "digest": "aaaa", "replaced": replaced,
                "recomposed": recomposed, "audited": audited }))
        };

        assert_eq!(answer("aaaa", &[], true), "identity serves aaaa already");
        assert_eq!(answer("bbbb", &["identity"], true), "identity serves aaaa in place of bbbb");
        assert_eq!(
            answer("bbbb", &["auth", "dev"], true),
            "identity serves aaaa in place of bbbb, in auth, dev"
        );
        assert!(answer("bbbb", &["auth"], false).contains("audit log"));
    }
}
