//! The main job at the public door, with a client that hides nothing.

mod callback; // what Upwork sends the browser back with, and what is made of it
mod cookies; // the session's cookies: attributes, pieces, bounds
mod gate; // who gets what without a session, our own endpoints, other hosts
mod refresh; // tokens that end, and calls that are refused
mod sign_out; // the end of a session
mod told; // what logs and metrics tell, and what they must not
mod upwork_fails; // sign-ins that do not come about
