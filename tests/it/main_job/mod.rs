//! The main job: sign-in, sessions and API calls at the public door.

mod callback;
mod cookies;
mod failed_sign_ins;
mod gate;
mod logs_and_metrics;
mod refresh;
mod sign_out;
