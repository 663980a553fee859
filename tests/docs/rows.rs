//! The table of rows, against the code.

use erasure_worker::engine::rows;

use crate::page;

#[test]
fn the_table_of_rows_agrees_with_the_code() {
    let page = page("docs/rows.md");
    assert!(page.contains(&rows::table()), "docs/rows.md should hold:\n{}", rows::table());
}
