//! What every page is: one file, without scripts, without anything from elsewhere.
//!
//! Text from captures is escaped by the template; the policy forbids scripts all the same. Refuses: what is on a page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// How a page looks, and the policy that lets it: nothing from elsewhere, and this style alone, by its SHA-256.
pub(crate) struct Look {
    pub(crate) policy: &'static str,
    pub(crate) style: &'static str,
}

impl Look {
    /// What the policy has to say of the style.
    #[cfg(test)]
    pub(crate) fn allowance(&self) -> String {
        use base64::Engine;
        use sha2::{Digest, Sha256};
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(self.style));
        format!("style-src 'sha256-{hash}';")
    }
}

/// The whole file.
pub(crate) fn document(title: &str, look: &Look, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(look.policy);
                title { (title) }
                style { (PreEscaped(look.style)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}
