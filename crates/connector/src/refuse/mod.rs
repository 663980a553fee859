use crate::fault::Fault;
use crate::model::Connector;
use crate::read::Lines;
use std::collections::BTreeSet;
pub(crate) fn refuse(_c: &Connector, _l: &Lines, _b: &BTreeSet<String>, _w: bool) -> Vec<Fault> {
    Vec::new()
}
