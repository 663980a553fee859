mod edits;
mod files;
mod refusals;
mod schema;
mod shown;
