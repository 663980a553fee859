mod edits;
mod files;
mod matching;
mod mutations;
mod reading;
mod refusals;
mod schema;
mod shown;
