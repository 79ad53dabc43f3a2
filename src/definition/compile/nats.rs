//! How to reach the broker: one form of credentials at most, and no secret in the file itself.

use std::sync::Arc;

use super::Compiler;
use crate::definition::fields::secret_help;
use crate::definition::file::{NatsFile, TlsFile};
use crate::definition::pipeline::{NamedFile, NatsAuth, NatsSettings, NatsTls, has_user_info};
use crate::definition::place;
use crate::definition::read::Word;
use crate::definition::tree::{Content, Node};
use crate::diagnostic::SourceText;
use crate::types::Secret;

impl Compiler<'_> {
    /// The section as far as it is right, with a problem for each thing that is wrong with it.
    pub(super) fn nats(&mut self, file: &NatsFile) -> NatsSettings {
        for (name, word) in [("token", &file.token), ("password", &file.password)] {
            if let Some(word) = word.as_ref().filter(|word| !word.value.is_expanded()) {
                self.report().problem(&word.span, format!("`{name}` stands in the file"), secret_help(name));
            }
        }
        let auth = self.nats_auth(file);
        if let Some(url) = file.url.as_ref().filter(|url| has_user_info(&url.value.value)) {
            self.user_info(url, auth.is_some());
        }
        NatsSettings { url: file.url.as_ref().map(secret), auth, tls: file.tls.as_ref().map(|tls| self.nats_tls(tls)) }
    }

    /// User info in the address is one form of credentials, and a secret.
    fn user_info(&mut self, url: &Word, other: bool) {
        if has_literal_user_info(&url.value.written) {
            self.report().problem(&url.span, "credentials stand in the file", secret_help("url"));
        } else if other {
            let help = "keep one of them: the address without user info, or no other credentials";
            self.report().problem(&url.span, "the address has user info, and `nats` names other credentials too", help);
        }
    }

    fn nats_auth(&mut self, file: &NatsFile) -> Option<NatsAuth> {
        match (&file.user, &file.password) {
            (Some(user), None) => {
                let help = "add `password: ${NATS_PASSWORD}`; a token goes into `token`";
                self.report().problem(&user.span, "`user` needs `password`", help);
            }
            (None, Some(password)) => {
                self.report().problem(&password.span, "`password` needs `user`", "add `user`, or leave `password` out");
            }
            _ => {}
        }
        if let Some(word) = &file.credentials {
            return Some(NatsAuth::Credentials(self.named_file(word)));
        }
        if let Some(word) = &file.nkey {
            return Some(NatsAuth::Nkey(self.named_file(word)));
        }
        if let Some(token) = &file.token {
            return Some(NatsAuth::Token(secret(token)));
        }
        let (user, password) = file.user.as_ref().zip(file.password.as_ref())?;
        Some(NatsAuth::User { user: user.value.value.clone(), password: secret(password) })
    }

    fn nats_tls(&mut self, file: &TlsFile) -> NatsTls {
        let identity = match (&file.certificate, &file.key) {
            (Some(certificate), Some(key)) => Some((self.named_file(certificate), self.named_file(key))),
            (Some(alone), None) => {
                self.report().problem(&alone.span, "`certificate` needs `key`", "add `key`, the PEM file of its key");
                None
            }
            (None, Some(alone)) => {
                self.report().problem(
                    &alone.span,
                    "`key` needs `certificate`",
                    "add `certificate`, or leave `key` out",
                );
                None
            }
            (None, None) => None,
        };
        let ca = file.ca.as_ref().map(|word| self.named_file(word));
        NatsTls { ca, identity, first: file.first.unwrap_or(false) }
    }

    fn named_file(&self, word: &Word) -> NamedFile {
        let place::Located { path, shown } = place::locate(&self.file.text.path, &word.value);
        NamedFile { path, shown }
    }
}

fn secret(word: &Word) -> Secret {
    Secret::new(word.value.value.as_str())
}

/// The same text with stars where a secret stands in it, as long as it is, so that every place stays where it is.
pub(super) fn without_secrets(text: &Arc<SourceText>, root: &Node) -> Arc<SourceText> {
    let Some(nats) = root.get("nats") else { return Arc::clone(text) };
    let mut bytes = text.text.clone().into_bytes();
    for name in ["url", "token", "password"] {
        let Some(node) = nats.get(name).filter(|node| stands_there(node, name)) else { continue };
        let secret = bytes.get_mut(node.span.clone()).unwrap_or_default();
        secret.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
    }
    // Whole characters were replaced, so the text is one still.
    String::from_utf8(bytes).map_or_else(|_| Arc::clone(text), |masked| SourceText::new(text.path.clone(), masked))
}

/// The same text with stars behind whatever looks like the name of a secret, and in whatever looks like the user info of an address,
/// up to the end of the line; as long as it is.
pub(super) fn without_secret_lines(text: &Arc<SourceText>) -> Arc<SourceText> {
    let masked: String = text.text.split_inclusive('\n').map(without_secret).collect();
    SourceText::new(text.path.clone(), masked)
}

fn without_secret(line: &str) -> String {
    let behind = |mark: &str| line.find(mark).map(|at| at + mark.len());
    let info = line.rfind('@').and_then(|_| behind("://"));
    let from = [behind("token:"), behind("password:"), info].into_iter().flatten().min();
    match from.and_then(|from| line.split_at_checked(from)).filter(|(_, secret)| !secret.contains("${")) {
        Some((before, secret)) => {
            let star = |c: char| if c == '\n' { "\n".to_owned() } else { "*".repeat(c.len_utf8()) };
            before.chars().map(String::from).chain(secret.chars().map(star)).collect()
        }
        None => line.to_owned(),
    }
}

/// Whether an address as it is written has user info in which no variable stands.
fn has_literal_user_info(written: &str) -> bool {
    written.rsplit_once('@').is_some_and(|(info, _)| !info.contains("${"))
}

/// Whether a value is a secret as it is, and not the name of a variable.
fn stands_there(node: &Node, name: &str) -> bool {
    match &node.content {
        Content::Text(text) if name == "url" => has_literal_user_info(&text.written),
        Content::Text(text) => !text.written.contains("${"),
        Content::Number(_) | Content::Boolean(_) => name != "url",
        _ => false,
    }
}
