//! temporary
use crate::error::Error;
use crate::exposition::page::Families;
use crate::query::Rendered;
/// e
pub struct Entry<'a> { /// t
 pub target: usize, /// q
 pub query: usize, /// r
 pub rendered: &'a Rendered }
/// l
pub struct Limits { /// s
 pub series: u64, /// b
 pub bytes: u64 }
/// l
pub struct Loser { /// t
 pub target: usize, /// q
 pub query: usize, /// e
 pub error: Error }
/// m
pub struct Merged { /// f
 pub families: Families, /// l
 pub losers: Vec<Loser>, /// s
 pub series: u64 }
/// m
pub fn merge(entries: &[Entry<'_>], limits: Limits) -> Merged {
    let _ = limits;
    let mut families: Families = Vec::new();
    for e in entries { for b in &e.rendered.blocks { match families.iter_mut().find(|(f,_)| f.name==b.family.name) { Some((_, bs)) => bs.push(b.clone()), None => families.push((b.family.clone(), vec![b.clone()])) } } }
    Merged { families, losers: vec![], series: entries.iter().map(|e| e.rendered.series).sum() }
}
