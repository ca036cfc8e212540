//! The files of `deploy/`, run or checked by the real tools.

mod image; // the Dockerfile on stand-in bases, with UPWARDEN_TESTS_IMAGE=1
mod kubernetes; // the chart, what is generated from it, and kustomize
mod package; // what `deploy/package` makes
mod systemd; // readiness, passed sockets, and the unit
