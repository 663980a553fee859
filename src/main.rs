//! The program. All code is in the library: the compiler generates an async function's code in the crate that awaits it.
//! With an `await` in `main`, nearly all code would be compiled twice.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    erasure_worker::cli::start()
}
