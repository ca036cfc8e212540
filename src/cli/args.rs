//! The commands, their arguments and the help texts.
//!
//! Arguments that may contain a secret (`--set`, `--client`) are not parsed by clap, whose errors repeat what it cannot
//! parse.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use super::output::Failure;
use crate::config::{self, Config, Sources};

/// The file that is read without `--config`, if it exists.
const DEFAULT_FILE: &str = "upwarden.toml";

#[derive(Debug, Parser)]
#[command(
    name = "upwarden",
    version,
    about = "An authentication sidecar for the Upwork API: people sign in with Upwork, and your app never sees a token",
    args_conflicts_with_subcommands = true,
    after_help = "First steps:
  upwarden demo                             try it, without keys or configuration
  upwarden key --out session-key            create a session key
  upwarden check --config upwarden.toml     find every problem in the configuration
  upwarden doctor --config upwarden.toml    check what the configuration refers to
  upwarden serve --config upwarden.toml     run it

Configuration: upwarden.toml, then UPWARDEN_… variables, then --set; a later one wins.
config.example.toml lists every key. `upwarden COMMAND --help` explains a command.
Exit codes: 0 success, 64 wrong usage, 78 wrong configuration, 1 anything else."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ConfigArguments,
}

impl Arguments {
    /// The command; `serve` if none is named.
    pub(super) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the sidecar; this is the default command
    #[command(after_help = "Examples:
  upwarden serve --config /etc/upwarden.toml
  upwarden serve --set app.url=http://127.0.0.1:8080
  UPWARDEN_APP__URL=http://127.0.0.1:8080 upwarden serve

SIGTERM or Ctrl-C starts a graceful shutdown: readiness drops, and requests in flight are finished. Logs go to stderr.")]
    Serve(ConfigArguments),
    /// Try it: the sidecar, a sample app and a local imitation of Upwork in one process
    #[command(
        after_help = "It needs no keys and no configuration, and stores nothing. It prints the address to open in a
browser, and two curl commands to paste. If a port is taken, it uses the next free one.

In a container, use --public 0.0.0.0:4180, publish the ports 4180 and 4183, and open http://localhost:4180/ on the host.
In a GitHub Codespace it prints the forwarded address.

Examples:
  upwarden demo
  upwarden demo --app http://127.0.0.1:3000
  docker run --rm -p 4180:4180 -p 4183:4183 upwarden demo --public 0.0.0.0:4180"
    )]
    Demo(DemoArguments),
    /// Run only the local imitation of Upwork
    #[command(
        after_help = "It prints the lines for upwarden.toml that point at it. Without --client it accepts any id of 32 hex
digits with a loopback redirect URI. With --fixtures DIR, the GraphQL operation `query Jobs …` gets DIR/Jobs.json, and
GET /api/profiles/v1/x.json gets DIR/api/profiles/v1/x.json; everything else gets the sandbox's own answers.

Examples:
  upwarden sandbox --fixtures answers
  upwarden sandbox --token-seconds 60
  curl -X POST http://127.0.0.1:4184/faults -d '{\"token\":\"500\",\"times\":2}'"
    )]
    Sandbox(SandboxArguments),
    /// Report every problem in the configuration; do nothing else
    #[command(
        after_help = "It prints a short summary with warnings and exits with 0, or prints every problem on stderr, each with
its key, source, cause and remedy, and exits with 78. No secret is printed.

Examples:
  upwarden check --config upwarden.toml
  upwarden check --strict"
    )]
    Check(CheckArguments),
    /// Check the app, Upwork, the clock, the callback address, cookie, TLS, keys, store and doors
    #[command(
        after_help = "It prints one line per check, `ok`, `warn` or `fail`, with a remedy, and exits with 1 if one failed.
It signs no one in, changes nothing and prints no secret. It calls Upwork a few times, among others the token
endpoint: with a made-up refresh token, and as the service identity if service.grant is client_credentials.

Examples:
  upwarden doctor --config upwarden.toml
  kubectl exec POD -c upwarden -- /usr/local/bin/upwarden doctor"
    )]
    Doctor(ConfigArguments),
    /// Print a new session key: 32 random bytes in base64url
    #[command(after_help = "To start:
  upwarden key --out /run/secrets/session-key
  and in upwarden.toml: session.key_files = [\"/run/secrets/session-key\"]
To rotate keys without signing anyone out, put a new key before the old one:
the first seals, all of them open.")]
    Key {
        /// How many keys, one per line
        #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        count: u32,
        /// Write them to this new file, which only its owner can read (mode 0600), instead of printing them
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Connect the service identity: sign in once, and get a file with a refresh token
    #[command(
        after_help = "For service.grant = \"refresh_token\". It prints an address to open in a browser, here or on another
machine, and waits at service.redirect_uri (register http://127.0.0.1:4189/callback for the API key). Over SSH the
browser ends at a page that cannot be reached: paste the address of that page into the terminal.

Example:
  upwarden login --config upwarden.toml --out /run/secrets/upwork-refresh-token"
    )]
    Login(LoginArguments),
    /// Ask a running upwarden whether it is ready; exit with 0 or 1
    #[command(
        after_help = "It calls /readyz at the admin door and prints the answer; for images without a shell or curl.
The address is --admin, or admin.listen of the configuration, or 127.0.0.1:4182.

Examples:
  upwarden health
  HEALTHCHECK CMD [\"/upwarden\", \"health\"]"
    )]
    Health(AdminArguments),
    /// Drain a running upwarden; for a preStop hook in an image without a shell
    #[command(
        after_help = "It calls /drain at the admin door, which accepts it only from loopback: readiness drops, the doors
serve for drain.delay, and then this command returns. Afterwards requests in flight are finished, and the process ends. If
there is a neighbour door, it stays open for the app until SIGTERM, at most for drain.timeout.

Example:
  upwarden drain --admin 127.0.0.1:4182"
    )]
    Drain(AdminArguments),
    /// Print shell completions
    #[command(after_help = "Examples:
  upwarden completions bash > ~/.local/share/bash-completion/completions/upwarden
  upwarden completions fish > ~/.config/fish/completions/upwarden.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Man {
        /// An existing folder for upwarden.1, upwarden-serve.1 and so on
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(super) struct ConfigArguments {
    /// The configuration file [default: upwarden.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, overriding the file and the environment; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl ConfigArguments {
    /// The file, this process's environment and the settings. An invalid setting is named by its position: it may be a
    /// secret without its key.
    pub(super) fn sources(self) -> Result<Sources, Failure> {
        if let Some(place) = self.sets.iter().position(|set| config::split_setting(set).is_none()) {
            let example = "write --set app.url=http://127.0.0.1:3000";
            return Err(Failure::Usage(format!("--set number {} is not KEY=VALUE; {example}", place + 1)));
        }
        let default = || Path::new(DEFAULT_FILE).is_file().then(|| PathBuf::from(DEFAULT_FILE));
        Ok(Sources::of_process(self.config.or_else(default), self.sets))
    }

    /// The checked configuration, and what it was read from.
    pub(super) fn load(self) -> Result<(Config, Sources), Failure> {
        let sources = self.sources()?;
        match config::load(&sources) {
            Ok(config) => Ok((config, sources)),
            Err(problems) if sources.is_empty() => Err(Failure::NotConfigured(problems)),
            Err(problems) => Err(Failure::Config(problems)),
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// Treat warnings as errors
    #[arg(long)]
    pub(super) strict: bool,
    #[command(flatten)]
    pub(super) config: ConfigArguments,
}

#[derive(Args, Debug)]
pub(super) struct AdminArguments {
    /// The address of the admin door
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigArguments,
}

impl AdminArguments {
    pub(super) fn address(self) -> Result<SocketAddr, Failure> {
        let sources = self.config.sources()?;
        self.admin.map_or_else(|| config::admin_address(&sources).map_err(Failure::Config), Ok)
    }
}

#[derive(Args, Debug)]
pub(super) struct DemoArguments {
    /// Your own app, instead of the sample app
    #[arg(long, value_name = "URL")]
    pub(super) app: Option<String>,
    /// The public door, for browsers
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4180")]
    pub(super) public: SocketAddr,
    /// The neighbour door, for local programs
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4181")]
    pub(super) neighbour: SocketAddr,
    /// The admin door, for health and metrics
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4182")]
    pub(super) admin: SocketAddr,
    /// The imitation of Upwork, where browsers sign in [default: port 4183 of --public's interface]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(super) sandbox: Option<SocketAddr>,
}

#[derive(Args, Debug)]
pub(super) struct SandboxArguments {
    /// Where Upwork's paths are served
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4183")]
    pub(super) listen: SocketAddr,
    /// Where faults are requested and counters read
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4184")]
    pub(super) control: SocketAddr,
    /// Lifetime of an access token, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub(super) token_seconds: u64,
    /// Length of an access token, in characters after its prefix
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub(super) token_chars: u32,
    /// Revoke all tokens descended from a refresh token that is used twice
    #[arg(long)]
    pub(super) strict: bool,
    /// Enforce Upwork's rate limits: 10 calls a second, 300 a minute, 40000 a day
    #[arg(long)]
    pub(super) limits: bool,
    /// A known client; all others are then refused; can be repeated
    #[arg(long = "client", value_name = "ID:SECRET:REDIRECT")]
    pub(super) clients: Vec<String>,
    /// A folder of canned answers: by operation name for GraphQL, by path for REST
    #[arg(long, value_name = "DIR")]
    pub(super) fixtures: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct LoginArguments {
    /// The file for the refresh token, mode 0600 [default: `service.refresh_token_file`]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    pub(super) force: bool,
    /// Do not open a browser, only print the address
    #[arg(long)]
    pub(super) no_browser: bool,
    #[command(flatten)]
    pub(super) config: ConfigArguments,
}

/// An address with a port, as in the configuration.
fn address(text: &str) -> Result<SocketAddr, String> {
    config::socket(text).map_err(|error| format!("it {}; {}", error.why, error.remedy))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        Arguments::try_parse_from([&["upwarden"], arguments].concat()).map(Arguments::into_command)
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_commands() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_address_can_be_localhost() {
        let Ok(Command::Health(admin)) = parse(&["health", "--admin", "localhost:9"]) else { panic!("it is health") };
        assert_eq!(admin.admin, Some(SocketAddr::from(([127, 0, 0, 1], 9))));
        for text in ["localhost", "4182", "tools.example.com:1", "localhost:x"] {
            let error = parse(&["drain", "--admin", text]).unwrap_err().to_string();
            assert!(error.contains("write 127.0.0.1:4180"), "{error}");
        }
    }

    #[test]
    fn the_default_command_is_serve() {
        let Ok(Command::Serve(serve)) = parse(&["--config", "a.toml", "--set", "b=c"]) else { panic!("it serves") };
        assert!(serve.config.is_some() && serve.sets == ["b=c"]);
        let Ok(Command::Serve(serve)) = parse(&[]) else { panic!("it serves") };
        assert!(serve.config.is_none() && serve.sets.is_empty());
    }
}
