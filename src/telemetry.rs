//! Logs: to stderr, as text on a terminal and as JSON elsewhere. Traces: by OTLP to a collector, if OpenTelemetry's
//! own variables set one.
//!
//! The rule it keeps: no personal data. Other crates may log only warnings (or information, if named), because at
//! finer levels HTTP and AMQP clients log addresses and frames, and a path can contain a member's id. A panic is
//! logged with its place, but not with its values.

pub mod lines;

use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::filter::{FilterFn, ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use crate::trace;

/// The variable that sets the level: `info`, `debug`, or `erasure_worker::engine=trace,info`.
pub const LEVEL_VARIABLE: &str = "ERASURE_LOG";
/// The variables with the collector's address.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// A layer that exports spans.
pub type Spans = Box<dyn Layer<Registry> + Send + Sync>;
/// The target of our own log lines.
const OWN: &str = "erasure_worker";
/// The AMQP client's target.
const BODY_LOGGER: &str = "lapin";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Compact {
        /// True for colours.
        colours: bool,
    },
    /// One JSON object a line.
    Json,
}

impl Format {
    /// The format for stderr: compact on a terminal (without colours if `NO_COLOR` is set), otherwise JSON.
    pub fn of_stderr() -> Format {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if std::io::stderr().is_terminal() { Format::Compact { colours } } else { Format::Json }
    }
}

/// The reason why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level cannot be read.
    #[error(
        "{LEVEL_VARIABLE} cannot be read ({0}): write LEVEL, TARGET=LEVEL or TARGET, with commas between; examples: \
         info, debug, erasure_worker::engine=trace,info"
    )]
    Level(String),
    /// The level excludes our own errors, like a misspelt one: it is taken for another crate's name.
    #[error(
        "{LEVEL_VARIABLE}={0} would leave out errors of the worker; levels are error, warn, info, debug, trace and \
         off; examples: info, debug, erasure_worker::engine=trace,info"
    )]
    Silent(String),
    /// The collector's address or another of its settings cannot be used.
    #[error("the collector's settings (OTEL_EXPORTER_OTLP_…) cannot be used: is the address http(s)://HOST:PORT?")]
    Collector,
    /// Another part of this process has set up logging already.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// It must live as long as the process: its drop sends the last spans and writes the last lines.
#[derive(Debug)]
#[must_use = "the last spans and lines are sent when it is dropped"]
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
    lines: Option<WorkerGuard>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.spans.as_ref().map(SdkTracerProvider::shutdown) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
        let lines = self.lines.take();
        lines::in_time(move || drop(lines));
    }
}

/// Sets up logging to stderr, traces, and the panic hook, once a process.
///
/// # Errors
/// `$ERASURE_LOG` or the collector's address cannot be read (usage errors), or logging is already set up.
pub fn init() -> Result<Telemetry, TelemetryError> {
    let level = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
    if leaves_out_errors(&level) {
        return Err(TelemetryError::Silent(level));
    }
    let provider = exporter()?;
    let spans = provider.as_ref().map(|provider| spans(provider.tracer("erasure-worker")));
    let (writer, lines) = lines::to_stderr();
    subscriber(&level, Format::of_stderr(), writer, spans)?.try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { spans: provider, lines: Some(lines) })
}

/// The directives of a filter: TARGET=LEVEL, TARGET or LEVEL.
fn directives(level: &str) -> impl Iterator<Item = &str> {
    level.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// The filter of a list of directives. A part that the library would read as something else, or as nothing, is an
/// error. An empty part is left out: the library would take it for `error`.
fn filter(level: &str) -> Result<Targets, TelemetryError> {
    let parts: Vec<&str> = directives(level).collect();
    if parts.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::INFO));
    }
    let plain = |c: char| c.is_alphanumeric() || "_:-.=".contains(c);
    if let Some(part) =
        parts.iter().find(|part| !part.chars().all(plain) || part.starts_with('=') || part.ends_with('='))
    {
        return Err(TelemetryError::Level(format!("{part:?} is no directive")));
    }
    parts.join(",").parse().map_err(|error: ParseError| TelemetryError::Level(error.to_string()))
}

/// True if a filter excludes our own errors without being `off`. The filter takes a word that is no level for the
/// name of a crate, and then logs everything of that crate and nothing of ours.
fn leaves_out_errors(level: &str) -> bool {
    let is_off = directives(level).any(|part| {
        let (target, word) = part.rsplit_once('=').unwrap_or((OWN, part));
        within(target.trim(), OWN) && word.trim().eq_ignore_ascii_case("off")
    });
    filter(level).is_ok_and(|targets| !is_off && !targets.would_enable(OWN, &Level::ERROR))
}

/// Sends spans to the collector of `$OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`), by HTTP and protobuf.
/// Nothing is sent if neither is set, or if `$OTEL_SDK_DISABLED` or `$OTEL_TRACES_EXPORTER` switches it off.
/// `$OTEL_SERVICE_NAME`, `…_HEADERS`, `$OTEL_TRACES_SAMPLER` and the others have OpenTelemetry's meaning.
fn exporter() -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set.eq_ignore_ascii_case(value));
    let is_set = ENDPOINTS.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if !is_set || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    // An error means that a provider is already installed, which is enough.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Its error can repeat the address, which may contain a credential.
    let exporter = SpanExporter::builder().with_http().build().map_err(|_| TelemetryError::Collector)?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("erasure-worker");
    }
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = resource.with_attribute(version).build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}

/// A layer for our own spans only: no log line and no span of another crate goes to the collector.
fn spans(tracer: SdkTracer) -> Spans {
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false);
    layer
        .with_filter(
            FilterFn::new(|span| span.is_span() && span.target() == trace::TARGET)
                .with_max_level_hint(LevelFilter::DEBUG),
        )
        .boxed()
}

/// A subscriber with the limits above, and spans for a collector if there is one. An empty `level` means `info`.
///
/// # Errors
/// `level` is no filter.
pub fn subscriber<W>(
    level: &str,
    format: Format,
    writer: W,
    spans: Option<Spans>,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let asked = filter(level)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Compact { colours } => lines.with_ansi(colours).compact().boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    Ok(tracing_subscriber::registry().with(spans).with(lines.with_filter(asked.and(cap(level)))))
}

/// Passes our own lines, and limits all others, whatever the user set.
fn cap(level: &str) -> FilterFn<impl Fn(&Metadata<'_>) -> bool + use<>> {
    // No crate has the name of a level.
    let targets = directives(level).filter_map(|directive| directive.split('=').next());
    let named: Vec<String> = targets.map(str::to_owned).collect();
    FilterFn::new(move |line: &Metadata<'_>| {
        // These are for the collector.
        if line.target() == trace::TARGET {
            return false;
        }
        // At `warn` this crate logs returned messages with their bodies. Its errors are handled and logged by us, and
        // a connection that we close ourselves is no error.
        if within(line.target(), BODY_LOGGER) {
            return false;
        }
        let is_named = named.iter().any(|target| within(line.target(), target));
        let most = match (within(line.target(), OWN), is_named) {
            (true, _) => LevelFilter::TRACE,
            (false, true) => LevelFilter::INFO,
            (false, false) => LevelFilter::WARN,
        };
        *line.level() <= most
    })
    // Without it every line of every crate would be formatted before the check.
    .with_max_level_hint(LevelFilter::TRACE)
}

/// True if a target is `parent` or a module below it.
fn within(target: &str, parent: &str) -> bool {
    target.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Logs the place of a panic. A formatted message may contain data and is left out; a constant one cannot.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("withheld, it may hold data");
    let thread = std::thread::current();
    tracing::error!(place, thread = thread.name().unwrap_or(""), message_text = message, "panicked");
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: Format, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(level, format, move || writer.clone(), None).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn chatter() {
        tracing::trace!(target: "erasure_worker::engine", "own trace");
        tracing::debug!(target: "hyper_util::client", "url https://example.com/members/77");
        tracing::info!(target: "hyper_util::client", "their information");
        tracing::warn!(target: "hyper_util::client", "their warning");
        tracing::error!(target: "lapin::channel", "a returned message's body");
    }

    #[test]
    fn trace_for_everything_still_shows_no_more_than_warnings_of_other_crates() {
        let text = logged("trace", Format::Json, chatter);
        assert!(text.contains("own trace") && text.contains("their warning"), "{text}");
        assert!(!text.contains("members/77") && !text.contains("their information"), "{text}");
    }

    #[test]
    fn a_crate_named_explicitly_is_still_capped_at_information() {
        for level in ["info,hyper_util=trace,lapin=trace", "info,hyper_util,lapin"] {
            let text = logged(level, Format::Json, chatter);
            assert!(text.contains("their information"), "{text}");
            assert!(!text.contains("members/77"), "{text}");
        }
    }

    #[test]
    fn the_client_that_logs_bodies_is_silent_at_every_level() {
        for level in ["trace", "lapin=trace"] {
            let text = logged(level, Format::Json, chatter);
            assert!(!text.contains("returned message"), "{text}");
        }
    }

    #[test]
    fn a_crate_whose_name_merely_starts_like_ours_is_capped() {
        let text = logged("trace", Format::Json, || tracing::info!(target: "erasure_workers", "stranger"));
        assert_eq!(text, "");
    }

    #[test]
    fn the_level_defaults_to_info_and_nonsense_is_an_error() {
        let text = logged("", Format::Compact { colours: false }, || {
            tracing::debug!(target: "erasure_worker", "fine");
            tracing::info!(target: "erasure_worker", "coarse");
        });
        assert!(text.contains("coarse") && !text.contains("fine"), "{text}");
        for level in ["a=b=c", "info,erasure_worker[job]=debug", "erasure_worker=", "*=debug", "info x", "=info"] {
            assert!(
                matches!(subscriber(level, Format::Json, io::sink, None), Err(TelemetryError::Level(_))),
                "{level}"
            );
        }
    }

    #[test]
    fn blanks_and_empty_parts_change_no_filter() {
        let debug = Some((LevelFilter::DEBUG, false));
        for (level, expected) in [
            ("info,", Some((LevelFilter::INFO, true))),
            (" , ", Some((LevelFilter::INFO, true))),
            ("warn, erasure_worker=info", Some((LevelFilter::INFO, true))),
            ("info,,erasure_worker=debug", debug),
            (" info , erasure_worker=debug,", debug),
        ] {
            let targets = filter(level).unwrap();
            let most =
                [Level::TRACE, Level::DEBUG, Level::INFO].into_iter().find(|most| targets.would_enable(OWN, most));
            let (most, is_info) = (most.map(LevelFilter::from), most == Some(Level::INFO));
            assert_eq!(most.map(|most| (most, is_info)), expected, "{level}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_instead_of_silencing_the_worker() {
        let silent = [
            "warning",
            "information",
            "verbose",
            "ERR",
            "lapin=trace",
            "lapin=off",
            "erasure_worker::engine=trace",
            "warning,lapin",
        ];
        let heard = [
            "",
            " ",
            "error",
            "warn",
            "WARN",
            "info",
            "Debug",
            "trace",
            "1",
            "5",
            "off",
            "erasure_worker=off",
            "info,warning",
            "erasure_worker=debug",
            "erasure_worker::engine=trace,info",
            "info,lapin=trace",
            "erasure_worker",
        ];
        for level in silent {
            assert!(leaves_out_errors(level), "{level}");
        }
        for level in heard {
            assert!(!leaves_out_errors(level), "{level}");
        }
    }

    #[test]
    fn what_is_more_detailed_than_the_level_is_not_even_put_together() {
        for (level, most) in
            [("", LevelFilter::INFO), ("warn", LevelFilter::WARN), ("info,a=trace", LevelFilter::TRACE)]
        {
            let subscriber = subscriber(level, Format::Json, io::sink, None).unwrap();
            assert_eq!(subscriber.max_level_hint(), Some(most), "{level}");
        }
    }

    #[test]
    fn elsewhere_than_on_a_terminal_every_line_is_one_json_object() {
        let text = logged("info", Format::Json, || tracing::info!(target: "erasure_worker", job = "j\n1", "went on"));
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((line["job"].as_str(), line["message"].as_str()), (Some("j\n1"), Some("went on")));
    }

    #[test]
    fn a_panic_tells_its_place_and_never_a_formatted_message() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let text = logged("info", Format::Json, || {
            let held = String::from("ann@example.com");
            let _ = std::panic::catch_unwind(|| panic!("cannot erase {held}"));
            let _ = std::panic::catch_unwind(|| panic!("plain words"));
        });
        std::panic::set_hook(before);
        assert!(text.contains("src/telemetry.rs:") && text.contains("plain words"), "{text}");
        assert!(!text.contains("ann@"), "{text}");
    }
}
