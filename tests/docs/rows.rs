//! The table of rows, against the code.

use erasure_worker::engine::rows;

use crate::page;

#[test]
fn the_table_of_rows_is_the_codes_own() {
    let page = page("docs/rows.md");
    assert!(page.contains(&rows::table()), "docs/rows.md should hold:\n{}", rows::table());
}
