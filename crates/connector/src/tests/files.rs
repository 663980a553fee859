//! The three files of vendors that the format was designed with.

use crate::load;

pub(super) const ZENDESK: &str = include_str!("zendesk.toml");
pub(super) const BRAZE: &str = include_str!("braze.toml");
pub(super) const MIXPANEL: &str = include_str!("mixpanel.toml");
pub(super) const ALL: [(&str, &str); 3] = [("zendesk", ZENDESK), ("braze", BRAZE), ("mixpanel", MIXPANEL)];

#[test]
fn each_file_loads() {
    for (name, text) in ALL {
        match load(text.as_bytes()) {
            Ok(file) => assert_eq!(file.name, name),
            Err(faults) => panic!("{name}:\n{faults}"),
        }
    }
}
