//! The paths that a Rust source file names: `crate::…` and `super::…`, also inside `use` braces, never in
//! comments, strings or characters. `super` inside an inline module means the file itself and is left out.

/// One path: `["crate", "driver", "Session"]` or `["super", "wire"]`.
#[derive(Debug, PartialEq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
}

/// Every path of a file, in order.
pub(super) fn paths(text: &str) -> Vec<Named> {
    let tokens = tokens(text);
    let mut walk = Walk { tokens: &tokens, at: 0, found: Vec::new() };
    walk.all();
    walk.found
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    /// Any other mark.
    Mark(char),
}

struct Walk<'t> {
    tokens: &'t [(usize, Token)],
    at: usize,
    found: Vec<Named>,
}

impl Walk<'_> {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    fn all(&mut self) {
        // The brace depths at which inline modules began.
        let (mut depth, mut inline) = (0_usize, Vec::new());
        while let Some((line, token)) = self.tokens.get(self.at) {
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => {
                    depth = depth.saturating_sub(1);
                    if inline.last() == Some(&depth) {
                        inline.pop();
                    }
                }
                Token::Word(word) if word == "mod" && self.peek(2) == Some(&Token::Mark('{')) => {
                    inline.push(depth);
                }
                Token::Word(word) if self.begins_path(word) => {
                    let before = self.found.len();
                    self.tree(*line, &[]);
                    if !inline.is_empty() {
                        self.forget_own(before);
                    }
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn begins_path(&self, word: &str) -> bool {
        let after_colons = self.at > 0 && self.tokens[self.at - 1].1 == Token::Colons;
        matches!(word, "crate" | "super") && !after_colons && self.peek(1) == Some(&Token::Colons)
    }

    /// Reads `a::b::{c, d::e}` from here on and notes each full path.
    fn tree(&mut self, line: usize, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        loop {
            match self.peek(0) {
                Some(Token::Word(word)) => segments.push(word.clone()),
                Some(Token::Mark('*')) => {}
                Some(Token::Mark('{')) => return self.branches(line, &segments),
                _ => break,
            }
            self.at += 1;
            if self.peek(0) != Some(&Token::Colons) {
                break;
            }
            self.at += 1;
        }
        self.found.push(Named { line, segments });
    }

    fn branches(&mut self, line: usize, prefix: &[String]) {
        self.at += 1;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Mark('}') => {
                    self.at += 1;
                    return;
                }
                Token::Word(word) if word == "as" => self.at += 2,
                Token::Word(_) | Token::Mark('{' | '*') => self.tree(line, prefix),
                _ => self.at += 1,
            }
        }
    }

    /// Inside an inline module `super::x` means the file itself: the paths found since `from` lose it.
    fn forget_own(&mut self, from: usize) {
        let mut index = 0;
        self.found.retain(|named| {
            index += 1;
            let first = named.segments.first().is_some_and(|first| first == "super");
            index <= from || !first || starts_twice(&named.segments)
        });
    }
}

fn starts_twice(segments: &[String]) -> bool {
    matches!(segments, [first, second, ..] if first == "super" && second == "super")
}

fn tokens(text: &str) -> Vec<(usize, Token)> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let start = at;
        match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => at = line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => at = comment_end(&chars, at),
            '"' => at = string_end(&chars, at + 1),
            '\'' => at = quote_end(&chars, at),
            ':' if chars.get(at + 1) == Some(&':') => {
                tokens.push((line, Token::Colons));
                at += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                at += chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                match raw_string_end(&chars, start, at) {
                    Some(end) => at = end,
                    None => tokens.push((line, Token::Word(chars[start..at].iter().collect()))),
                }
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push((line, Token::Mark(c)));
                }
                at += 1;
            }
        }
        at = at.min(chars.len());
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn line_end(chars: &[char], at: usize) -> usize {
    at + chars[at..].iter().take_while(|c| **c != '\n').count()
}

fn comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of `'c'`, `'\n'`, `'\u{1F600}'`; of a lifetime only its mark.
fn quote_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let rest = chars.iter().skip(at + 3);
            at + 4 + rest.take_while(|c| **c != '\'').count()
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// The end of `r"…"`, `br#"…"#` and the like, when the word in `start..at` begins one.
fn raw_string_end(chars: &[char], start: usize, at: usize) -> Option<usize> {
    let prefix: String = chars[start..at].iter().collect();
    if !matches!(prefix.as_str(), "r" | "br" | "cr") {
        return None;
    }
    let marks = chars[at..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + marks) != Some(&'"') {
        return None;
    }
    let mut end = at + marks + 1;
    while end < chars.len() {
        let closes =
            chars[end] == '"' && chars[end + 1..].iter().take(marks).filter(|c| **c == '#').count() == marks;
        end += 1;
        if closes {
            return Some(end + marks);
        }
    }
    Some(end)
}
