//! Rust text as tokens with their lines: enough to see paths, words and literals, without comments and test code.

/// A piece of Rust text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// An identifier, a keyword, a number.
    Word(String),
    /// What stands between the quotes of a string literal, escapes as written.
    Text(String),
    /// `::`
    Path,
    /// Any other character that is not white space.
    Sign(char),
}

/// A token and the line on which it begins, from 1.
pub(super) type Placed = (Token, usize);

/// The tokens of `text`: no comments, character literals or lifetimes.
pub(super) fn tokens(text: &str) -> Vec<Placed> {
    let mut reader = Reader { characters: text.chars().collect(), at: 0, line: 1, found: Vec::new() };
    while reader.at < reader.characters.len() {
        reader.step();
    }
    reader.found
}

/// The tokens that are not under `#[cfg(test)]`.
pub(super) fn without_tests(tokens: &[Placed]) -> Vec<Placed> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let marked =
            marker.iter().enumerate().all(|(offset, sign)| tokens.get(at + offset).is_some_and(|next| is(next, sign)));
        if marked {
            at = end_of_item(tokens, at + marker.len());
        } else {
            kept.push(token.clone());
            at += 1;
        }
    }
    kept
}

/// Whether a token is this sign or word.
pub(super) fn is(token: &Placed, text: &str) -> bool {
    match &token.0 {
        Token::Word(word) => word == text,
        Token::Sign(sign) => text.chars().eq([*sign]),
        Token::Path => text == "::",
        Token::Text(_) => false,
    }
}

/// The position behind the item that begins at `start`: its `;`, or the brace that closes its first one.
fn end_of_item(tokens: &[Placed], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match &token.0 {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') if depth <= 1 => return at + 1,
            Token::Sign('}') => depth -= 1,
            Token::Sign(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

struct Reader {
    characters: Vec<char>,
    at: usize,
    line: usize,
    found: Vec<Placed>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(character == '\n');
        Some(character)
    }

    fn step(&mut self) {
        let line = self.line;
        let Some(character) = self.next() else { return };
        let token = match (character, self.peek(0)) {
            ('/', Some('/')) => return self.skip_line(),
            ('/', Some('*')) => return self.skip_block(),
            ('\'', _) => return self.skip_quoted_or_lifetime(),
            ('"', _) => self.text(),
            (':', Some(':')) => {
                self.next();
                Token::Path
            }
            (first, _) if first.is_alphanumeric() || first == '_' => match self.word(first) {
                Some(word) => Token::Word(word),
                None => self.raw_text(),
            },
            (space, _) if space.is_whitespace() => return,
            (sign, _) => Token::Sign(sign),
        };
        self.found.push((token, line));
    }

    fn skip_line(&mut self) {
        while self.next().is_some_and(|character| character != '\n') {}
    }

    fn skip_block(&mut self) {
        let mut depth = 1;
        self.next();
        while depth > 0 {
            match (self.next(), self.peek(0)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => continue,
            }
            self.next();
        }
    }

    fn skip_quoted_or_lifetime(&mut self) {
        if self.peek(0) == Some('\\') {
            self.next();
            self.next();
            while self.next().is_some_and(|character| character != '\'') {}
        } else if self.peek(1) == Some('\'') {
            self.next();
            self.next();
        }
    }

    fn text(&mut self) -> Token {
        let mut text = String::new();
        while let Some(character) = self.next().filter(|&character| character != '"') {
            text.push(character);
            if character == '\\' {
                text.extend(self.next());
            }
        }
        Token::Text(text)
    }

    /// The word that begins with `first`; none where it is the `r` of a raw string, whose quote comes next.
    fn word(&mut self, first: char) -> Option<String> {
        let mut word = String::from(first);
        while let Some(character) = self.peek(0).filter(|&next| next.is_alphanumeric() || next == '_') {
            self.next();
            word.push(character);
        }
        let hashes = (0..).take_while(|&ahead| self.peek(ahead) == Some('#')).count();
        let raw = matches!(word.as_str(), "r" | "br") && self.peek(hashes) == Some('"');
        (!raw).then_some(word)
    }

    fn raw_text(&mut self) -> Token {
        let mut close = String::from('"');
        while self.next() == Some('#') {
            close.push('#');
        }
        let mut text = String::new();
        while !text.ends_with(&close) {
            let Some(character) = self.next() else { break };
            text.push(character);
        }
        text.truncate(text.len().saturating_sub(close.len()));
        Token::Text(text)
    }
}
