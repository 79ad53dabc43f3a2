//! How to reach the broker: one form of credentials at most, and no secret in the file itself.

use std::sync::Arc;

use super::Compiler;
use crate::definition::environment::{self, Environment, literal};
use crate::definition::fields::secret_help;
use crate::definition::file::{NatsFile, TlsFile};
use crate::definition::pipeline::{NamedFile, NatsAuth, NatsSettings, NatsTls, Unset, has_user_info};
use crate::definition::place;
use crate::definition::read::Word;
use crate::definition::tree::{Content, Node};
use crate::diagnostic::{Diagnostics, SourceText};
use crate::types::Secret;

impl Compiler<'_> {
    /// The section as far as it is right, with a problem for each thing that is wrong with it.
    pub(super) fn nats(&mut self, file: &NatsFile) -> NatsSettings {
        for (name, word) in [("token", &file.token), ("password", &file.password)] {
            if let Some(word) = word.as_ref().filter(|word| has_secret(name, &word.value.written)) {
                self.report().problem(&word.span, format!("`{name}` stands in the file"), secret_help(name));
            }
        }
        let auth = self.nats_auth(file);
        if let Some(url) = &file.url {
            self.user_info(url, auth.is_some());
        }
        let tls = file.tls.as_ref().map(|tls| self.nats_tls(tls));
        NatsSettings { url: file.url.as_ref().map(secret), auth, tls, unset: self.file.unset.clone() }
    }

    /// User info in the address is one form of credentials, and a secret.
    fn user_info(&mut self, url: &Word, other: bool) {
        if has_secret("url", &url.value.written) {
            self.report().problem(&url.span, "credentials stand in the file", secret_help("url"));
        } else if other && has_user_info(&url.value.value) {
            let help = "keep one of them: the address without user info, or no other credentials";
            self.report().problem(&url.span, "the address has user info, and `nats` names other credentials too", help);
        }
    }

    fn nats_auth(&mut self, file: &NatsFile) -> Option<NatsAuth> {
        match (&file.user, &file.password) {
            (Some(user), None) if !file.has_password => {
                let help = "add `password: ${NATS_PASSWORD}`; a token goes into `token`";
                self.report().problem(&user.span, "`user` needs `password`", help);
            }
            (None, Some(password)) if !file.has_user => {
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
            (Some(alone), None) if !file.has_key => {
                self.report().problem(&alone.span, "`certificate` needs `key`", "add `key`, the PEM file of its key");
                None
            }
            (None, Some(alone)) if !file.has_certificate => {
                self.report().problem(
                    &alone.span,
                    "`key` needs `certificate`",
                    "add `certificate`, or leave `key` out",
                );
                None
            }
            _ => None,
        };
        let ca = file.ca.as_ref().map(|word| self.named_file(word));
        NatsTls { ca, identity, first: file.first.unwrap_or(false) }
    }

    fn named_file(&self, word: &Word) -> NamedFile {
        let place::Located { path, shown } = place::locate(&self.file.text.path, &word.value);
        NamedFile { path, shown }
    }
}

/// Expands the section. Whoever only looks at a pipeline needs no secrets, so a variable that is not set is no problem before
/// a connection is made.
pub(super) fn expand(
    root: &mut Node,
    environment: Environment<'_>,
    text: &Arc<SourceText>,
    problems: &mut Diagnostics,
) -> Vec<Unset> {
    let Some(Content::Map(entries)) = root.get_mut("nats").map(|node| &mut node.content) else { return Vec::new() };
    let mut unset = Vec::new();
    for entry in entries {
        // Whatever is wrong also where everything is set is wrong.
        let mut wrong = Diagnostics::default();
        environment::expand(&mut entry.node.clone(), &|_| Some("set".to_owned()), text, &mut wrong);
        if !wrong.is_empty() {
            problems.0.extend(wrong.0);
            entry.node.content = Content::Broken;
            continue;
        }
        let mut found = Diagnostics::default();
        environment::expand(&mut entry.node, environment, text, &mut found);
        unset.extend(found.0.into_iter().map(|problem| Unset { field: entry.key.clone(), problem }));
    }
    unset
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
    match from
        .and_then(|from| line.split_at_checked(from))
        .filter(|(_, secret)| !secret.contains("${") || secret.contains(":-"))
    {
        Some((before, secret)) => {
            let star = |c: char| if c == '\n' { "\n".to_owned() } else { "*".repeat(c.len_utf8()) };
            before.chars().map(String::from).chain(secret.chars().map(star)).collect()
        }
        None => line.to_owned(),
    }
}

/// Whether a part of a secret stands in what is written, and not only in variables.
fn has_secret(name: &str, written: &str) -> bool {
    let literal = literal(written);
    if name != "url" {
        return !literal.is_empty();
    }
    let info = |address: &str| {
        let (info, _) = address.rsplit_once('@')?;
        let info = info.split_once("://").map_or(info, |(_, info)| info);
        Some(info.split_once(':').map_or(info, |(_, password)| password).to_owned())
    };
    literal.split(',').filter_map(info).any(|secret| !secret.is_empty())
}

/// Whether a value is a secret as it is, and not the name of a variable.
fn stands_there(node: &Node, name: &str) -> bool {
    match &node.content {
        Content::Text(text) => has_secret(name, &text.written),
        Content::Number(_) | Content::Boolean(_) => name != "url",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_whatever_of_it_is_no_variable() {
        for (name, written, secret) in [
            ("token", "${T}", false),
            ("token", "${A}${B}", false),
            ("token", "${T:-hunter2}", true),
            ("token", "hunter${T}", true),
            ("password", "hunter$${2}", true),
            ("url", "nats://a,nats://b:4222", false),
            ("url", "${URL}", false),
            ("url", "${URL:-nats://localhost:4222}", false),
            ("url", "nats://${T}@a", false),
            ("url", "nats://ann:${P}@a,nats://${U}:${P}@b", false),
            ("url", "${URL:-nats://hunter2@a}", true),
            ("url", "nats://hunter2@a", true),
            ("url", "nats://a,nats://${U}:hunter2@b", true),
            ("url", "nats://ann:hun,ter2@${HOST}", true),
            ("url", "ann:hunter2@a", true),
        ] {
            assert_eq!(has_secret(name, written), secret, "{name}: {written}");
        }
    }

    #[test]
    fn line_keeps_its_length_and_loses_what_looks_like_a_secret() {
        for (line, expected) in [
            ("  token: hünter2 x\n", "  token:***********\n"),
            ("nats: { password: \"hunter2\" ]", "nats: { password:************"),
            ("url: nats://ann:hunter2@a\n", "url: nats://*************\n"),
            ("password: ${P} }\n", "password: ${P} }\n"),
            ("password: ${P:-hunter2} }\n", "password:****************\n"),
            ("url: nats://a ]\n", "url: nats://a ]\n"),
            ("jobs: x", "jobs: x"),
        ] {
            assert_eq!(without_secret(line), expected);
            assert_eq!(without_secret(line).len(), line.len());
        }
    }
}
