//! demo
use std::io::Write;

use anyhow::Result;

use super::Exit;
use super::args::Demo;

/// The whole story.
pub async fn demo(_args: &Demo, _out: &mut (dyn Write + Send)) -> Result<Exit> {
    Ok(Exit::Failed)
}
