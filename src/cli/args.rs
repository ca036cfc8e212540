//! The commands and their flags, with the help texts.
//!
//! In: arguments, by clap. Out: a [`Command`]. What may hold a secret (`--set`, `--client`) stays a text here, since
//! clap repeats in its errors what it cannot read.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config;

/// Everything there is on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "upwarden",
    version,
    about = "An authentication sidecar for the Upwork API: people sign in with Upwork, your app sees no token",
    args_conflicts_with_subcommands = true,
    after_help = "First steps:
  upwarden demo                         try it: no keys, no configuration
  upwarden key > session-key            make a session key
  upwarden check --config upwarden.toml see what is still missing
  upwarden doctor                       see whether what it names is there
  upwarden serve --config upwarden.toml run it

Configuration: upwarden.toml, then UPWARDEN_… variables, then --set; the later wins.
config.example.toml names every key. `upwarden COMMAND --help` tells more.
Exit codes: 0 well, 64 wrong usage, 78 wrong configuration, 1 anything else."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ConfigArguments,
}

#[derive(Args, Debug)]
struct ConfigArguments {
    /// The configuration file [default: upwarden.toml where it exists, else the environment alone]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl Arguments {
    /// The command; `serve` where none is named.
    pub(super) fn chosen(self) -> Command {
        let ConfigArguments { config, sets } = self.serve;
        self.command.unwrap_or(Command::Serve { config, sets })
    }
}

/// An address with a port, as in the configuration.
fn address(text: &str) -> Result<SocketAddr, String> {
    config::socket(text).map_err(|error| format!("it {}; {}", error.why, error.remedy))
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar (this is what happens without a command, too)
    #[command(after_help = "Examples:
  upwarden serve --config /etc/upwarden.toml
  upwarden serve --set app.url=http://127.0.0.1:8080
  UPWARDEN_APP__URL=http://127.0.0.1:8080 upwarden serve

SIGTERM and Ctrl-C end it in good order: readiness drops, what is in flight is finished. Logs go to stderr.")]
    Serve {
        /// The configuration file [default: upwarden.toml where it exists, else the environment alone]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Sets one key over file and environment; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Try it at once: an imitation of Upwork, a sample app and the sidecar in one process
    #[command(after_help = "Needs no key and no configuration, and keeps nothing. It prints the address to open in a
browser, and two curl lines to paste. A port that is taken is replaced by the next free one.

Example:
  upwarden demo")]
    Demo {
        /// Where the sidecar listens for browsers
        #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4180")]
        public: SocketAddr,
        /// Where the sidecar listens for programs next door
        #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4181")]
        neighbour: SocketAddr,
        /// Where health and metrics are asked
        #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4182")]
        admin: SocketAddr,
        /// Where the imitation of Upwork listens
        #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4183")]
        sandbox: SocketAddr,
    },
    /// Run only the local imitation of Upwork
    #[command(after_help = "Point upwork.authorize_url, token_url, revoke_url, graphql_url and api_url at it. Without
--client any id of 32 hex digits with a loopback redirect address is taken.

Examples:
  upwarden sandbox --token-seconds 60
  curl -X POST http://127.0.0.1:4184/faults -d '{\"token\":\"500\",\"times\":2}'")]
    Sandbox {
        /// Where it listens: Upwork's own paths
        #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4183")]
        listen: SocketAddr,
        /// Where faults are ordered and counters read
        #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:4184")]
        control: SocketAddr,
        /// How long an access token lives, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
        token_seconds: u64,
        /// How many characters an access token has after its prefix
        #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(16..=65_536))]
        token_chars: u32,
        /// A refresh token used twice ends all of its family, at once
        #[arg(long)]
        strict: bool,
        /// Enforce Upwork's rate limits: 10 calls a second, 300 a minute, 40000 a day
        #[arg(long)]
        limits: bool,
        /// A client that is known; with one, no other is; may be repeated
        #[arg(long = "client", value_name = "ID:SECRET:REDIRECT")]
        clients: Vec<String>,
    },
    /// Read the configuration and tell every problem; touches nothing else
    #[command(
        after_help = "Prints a short summary and ends with 0 where all is well; else every problem on stderr, each
with its key, source, cause and remedy, and 78. No secret is printed.

Example:
  upwarden check --config upwarden.toml"
    )]
    Check {
        /// The configuration file [default: upwarden.toml where it exists, else the environment alone]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Sets one key over file and environment; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Go and look: the app, Upwork, the clock, the callback address, cookie, TLS, keys, store, doors
    #[command(
        after_help = "Prints a line for each thing, `ok`, `warn` or `fail`, with a remedy, and ends with 1 where one failed.
It signs nobody in and changes nothing. Upwork is asked a few times: its token endpoint with a made-up refresh
token, and for a token of the service identity where service.grant is client_credentials. No secret is printed.

Examples:
  upwarden doctor --config upwarden.toml
  kubectl exec POD -c upwarden -- /usr/local/bin/upwarden doctor"
    )]
    Doctor {
        /// The configuration file [default: upwarden.toml where it exists, else the environment alone]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Sets one key over file and environment; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Print a fresh session key: 32 random bytes, base64url
    #[command(after_help = "To begin:
  (umask 077; upwarden key > /run/secrets/session-key)
  and in upwarden.toml: session.key_files = [\"/run/secrets/session-key\"]
To change keys without signing anyone out, put a fresh one before the old one:
the first seals, all of them open.")]
    Key {
        /// How many, one a line
        #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
        count: u32,
    },
    /// Connect the service identity from a terminal: sign in once, get a file with a refresh token
    #[command(
        after_help = "For service.grant = \"refresh_token\". It prints an address to open in a browser, here or on
another machine, and waits at service.redirect_uri (register http://127.0.0.1:4189/callback for the key). Over SSH the
browser ends at a page that cannot be reached: paste that page's address into the terminal.

Example:
  upwarden login --config upwarden.toml --out /run/secrets/upwork-refresh-token"
    )]
    Login {
        /// Where the refresh token goes, 0600 [default: `service.refresh_token_file`]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
        /// Open no browser, only print the address
        #[arg(long)]
        no_browser: bool,
        /// The configuration file [default: upwarden.toml where it exists, else the environment alone]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Sets one key over file and environment; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Ask a running upwarden whether it is ready: 0 or 1
    #[command(
        after_help = "Asks the admin door for /readyz and prints what it says; for images without a shell or curl.
The address is --admin, else admin.listen of the configuration, else 127.0.0.1:4182.

Examples:
  upwarden health
  HEALTHCHECK CMD [\"/upwarden\", \"health\"]"
    )]
    Health {
        /// The admin door's address
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        admin: Option<SocketAddr>,
        /// The configuration file, read for admin.listen only
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Sets one key over file and environment; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Ask a running upwarden to leave: for a preStop hook where the image has no shell
    #[command(
        after_help = "It asks the admin door, from loopback: readiness drops, the doors go on serving for drain.delay,
and this command returns when that is over. What is in flight is finished afterwards, and the process ends by itself.

Example:
  upwarden drain --admin 127.0.0.1:4182"
    )]
    Drain {
        /// The admin door's address
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        admin: Option<SocketAddr>,
        /// The configuration file, read for admin.listen only
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Sets one key over file and environment; may be repeated
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Print completions for a shell
    #[command(after_help = "Examples:
  upwarden completions bash > ~/.local/share/bash-completion/completions/upwarden
  upwarden completions fish > ~/.config/fish/completions/upwarden.fish")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_finds_nothing_wrong_with_the_commands() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_address_may_be_called_localhost() {
        let parsed = Arguments::try_parse_from(["upwarden", "health", "--admin", "localhost:9"]).unwrap().chosen();
        assert!(
            matches!(parsed, Command::Health { admin: Some(admin), .. } if admin == SocketAddr::from(([127, 0, 0, 1], 9)))
        );
        for text in ["localhost", "4182", "tools.example.com:1", "localhost:x"] {
            let told = Arguments::try_parse_from(["upwarden", "drain", "--admin", text]).unwrap_err().to_string();
            assert!(told.contains("write 127.0.0.1:4180"), "{told}");
        }
    }

    #[test]
    fn without_a_command_it_serves() {
        let parsed = Arguments::try_parse_from(["upwarden", "--config", "a.toml", "--set", "b=c"]).unwrap().chosen();
        assert!(matches!(parsed, Command::Serve { config: Some(_), sets } if sets == ["b=c"]));
        let parsed = Arguments::try_parse_from(["upwarden"]).unwrap().chosen();
        assert!(matches!(parsed, Command::Serve { config: None, sets } if sets.is_empty()));
    }
}
