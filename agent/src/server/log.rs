//! Looks for texts in a server's output.

use tokio::sync::watch;
use zlh_agent_protocol::game::Readiness;

/// Finds the first of some texts, wherever the pieces of output are cut.
#[derive(Debug)]
pub(crate) struct LogWatch {
    texts: Vec<String>,
    /// The end of what was seen, in which a text may have begun.
    carry: Vec<u8>,
    found: watch::Sender<bool>,
}

impl LogWatch {
    /// What tells that a server is ready, where its output does.
    pub(crate) fn new(readiness: &Readiness, found: watch::Sender<bool>) -> Self {
        let texts = match readiness {
            Readiness::Log { contains } => {
                contains.iter().filter(|text| !text.is_empty()).cloned().collect()
            }
            Readiness::Tcp { .. } | Readiness::Minecraft { .. } => Vec::new(),
        };
        Self { texts, carry: Vec::new(), found }
    }

    pub(crate) fn see(&mut self, bytes: &[u8]) {
        let Some(longest) = self.texts.iter().map(String::len).max() else { return };
        self.carry.extend_from_slice(bytes);
        let hit =
            |text: &String| self.carry.windows(text.len()).any(|window| window == text.as_bytes());
        if self.texts.iter().any(hit) {
            self.found.send_replace(true);
            // Nothing more is looked for.
            self.texts.clear();
            self.carry = Vec::new();
            return;
        }
        self.carry.drain(..self.carry.len().saturating_sub(longest - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_the_output_is_cut() {
        let readiness = Readiness::Log { contains: vec!["never".into(), "is ready".into()] };
        let (sender, found) = watch::channel(false);
        let mut log = LogWatch::new(&readiness, sender);

        for piece in ["the server i", "s rea", "l\nis", " re"] {
            log.see(piece.as_bytes());
            assert!(!*found.borrow(), "{piece}");
        }
        log.see(b"ady now");

        assert!(*found.borrow());
        log.see(b"and goes on");
    }
}
