mod drafts;
mod own;
mod refusals;
mod shown;

use crate::fault::Fault;
use crate::read::{File, load_file};
use crate::sql::SqlFile;

/// A good file.
const SHOP: &str = include_str!("shop.toml");

fn load(text: &str) -> SqlFile {
    match load_file(text.as_bytes()) {
        Ok(File::Sql(file)) => *file,
        Ok(File::Calls(_)) => panic!("a file of calls"),
        Err(faults) => panic!("{faults}"),
    }
}

fn faults(text: &str) -> Vec<Fault> {
    load_file(text.as_bytes()).err().map(|faults| faults.0).unwrap_or_default()
}
