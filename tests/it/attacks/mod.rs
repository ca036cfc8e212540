//! What an attacker would try: headers, paths, return addresses, cookies, and any input to the parsers.

mod cookies;
mod engine;
mod headers;
mod parsers;
mod paths;
mod properties;
mod return_to;
mod spellings;
mod wire;
