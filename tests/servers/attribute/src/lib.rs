//! `#[test]` for the integration tests. It hands the body of a test to `crate::process::run_test`, which lets the test
//! pass and reports that it was left out when it asked for a server and none was started.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Replaces the standard attribute in the whole crate: `#[macro_use] extern crate` puts it in front of the prelude.
#[proc_macro_attribute]
pub fn test(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    if let Some(TokenTree::Group(body)) = tokens.pop() {
        let mut closure: TokenStream = "move ||".parse().unwrap_or_default();
        closure.extend([TokenTree::Group(body)]);
        let mut call: TokenStream = "crate::process::run_test".parse().unwrap_or_default();
        call.extend([TokenTree::Group(Group::new(Delimiter::Parenthesis, closure))]);
        tokens.push(TokenTree::Group(Group::new(Delimiter::Brace, call)));
    }
    let mut test: TokenStream = "#[::core::prelude::v1::test]".parse().unwrap_or_default();
    test.extend(tokens);
    test
}
