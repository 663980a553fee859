//! The program. All of it is in the library: the compiler makes the code of an async function where it is awaited,
//! so that nearly all of it would be made once more for a `main` that awaits.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    erasure_worker::cli::start()
}
