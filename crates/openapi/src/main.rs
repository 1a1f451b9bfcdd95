//! Prints the document.

use std::io::Write as _;

fn main() -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{}", zlh_openapi::document().to_pretty_json()?)?;
    Ok(())
}
