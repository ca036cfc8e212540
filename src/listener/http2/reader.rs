//! Reads where the frames of an HTTP/2 connection begin and end (RFC 9113 section 4.1), and counts those that request nothing.
//!
//! Takes bytes as they pass, in pieces of any size, and keeps only a frame's head and the end of its payload.

use std::time::Duration;

use tokio::time::Instant;

/// "PRI * HTTP/2.0 …", which h2 checks (RFC 9113 section 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// The payload of the ping after h2's first GOAWAY.
pub(super) const SHUTDOWN: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
/// More frames that request nothing within `FLOOD_TIME` are a flood.
const FLOOD_FRAMES: u32 = 10_000;
const FLOOD_TIME: Duration = Duration::from_secs(10);
/// `WINDOW_UPDATE` frames that a client may send for each piece of an answer: for the stream and the connection, in halves.
pub(super) const UPDATES_PER_PIECE: u64 = 4;
pub(super) const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
pub(super) const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The position in the frames of one direction.
#[derive(Default)]
pub(super) struct Cursor {
    /// Bytes left of the preface.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of `head` that were read.
    head_len: usize,
    /// Bytes left of the payload.
    payload: usize,
    /// The last bytes of the payload.
    pub(super) tail: [u8; 8],
}

/// What the bytes complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Head,
    Payload,
}

impl Cursor {
    /// Reads some of `bytes`; returns the rest, and what the read ones complete.
    pub(super) fn take<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], Found) {
        let wanted = match (self.preface, self.payload) {
            (0, 0) => HEAD - self.head_len,
            (0, payload) => payload,
            (preface, _) => preface,
        };
        let (now, later) = bytes.split_at(wanted.min(bytes.len()));
        let found = if self.preface > 0 {
            self.preface -= now.len();
            Found::Nothing
        } else if self.payload > 0 {
            self.payload -= now.len();
            let kept = now.len().min(8);
            self.tail.rotate_left(kept);
            self.tail
                .iter_mut()
                .skip(8 - kept)
                .zip(now.get(now.len() - kept..).unwrap_or_default())
                .for_each(|(place, byte)| *place = *byte);
            if self.payload == 0 { Found::Payload } else { Found::Nothing }
        } else {
            self.head.iter_mut().skip(self.head_len).zip(now).for_each(|(place, byte)| *place = *byte);
            self.head_len += now.len();
            if self.head_len < HEAD {
                return (later, Found::Nothing);
            }
            let [a, b, c, ..] = self.head;
            self.payload = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            self.head_len = 0;
            Found::Head
        };
        (later, found)
    }

    pub(super) fn kind(&self) -> u8 {
        self.head[3]
    }

    fn flags(&self) -> u8 {
        self.head[4]
    }

    pub(super) fn is_between_frames(&self) -> bool {
        self.preface == 0 && self.head_len == 0 && self.payload == 0
    }
}

/// The client's frames.
pub(super) struct FrameReader {
    cursor: Cursor,
    /// The first frame, with the client's settings, has not arrived.
    fresh: bool,
    /// Headers without `END_HEADERS`.
    open_headers: bool,
    pub(super) shutdown_answered: bool,
    /// `RST_STREAM` and `WINDOW_UPDATE` frames that are acceptable for the streams begun and the pieces sent.
    resets: u64,
    pub(super) updates: u64,
    /// Frames that request nothing, since when.
    idle_frames: u32,
    idle_frames_since: Instant,
}

#[derive(Debug, thiserror::Error)]
#[error("a flood of frames that request nothing")]
pub(super) struct Flood;

impl FrameReader {
    pub(super) fn new() -> Self {
        Self {
            cursor: Cursor { preface: PREFACE, ..Cursor::default() },
            fresh: true,
            open_headers: false,
            shutdown_answered: false,
            resets: 0,
            updates: 0,
            idle_frames: 0,
            idle_frames_since: Instant::now(),
        }
    }

    pub(super) fn is_between_frames(&self) -> bool {
        self.cursor.is_between_frames()
    }

    /// Whether nothing with a deadline is incomplete. The reader of a body limits its pauses.
    pub(super) fn is_complete(&self) -> bool {
        let Cursor { preface, head_len, payload, .. } = self.cursor;
        let complete = payload == 0 || self.cursor.kind() == DATA;
        preface == 0 && head_len == 0 && !self.fresh && !self.open_headers && complete
    }

    /// Whether the input was complete at some point, and whether the client enlarged a window.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(bool, bool), Flood> {
        let (mut completed, mut window) = (false, false);
        while !bytes.is_empty() {
            let (later, found) = self.cursor.take(bytes);
            bytes = later;
            match found {
                Found::Nothing => {}
                Found::Head => window |= self.begin_frame()?,
                Found::Payload => self.shutdown_answered |= self.is_pong() && self.cursor.tail == SHUTDOWN,
            }
            completed |= self.is_complete();
        }
        Ok((completed, window))
    }

    fn is_pong(&self) -> bool {
        self.cursor.kind() == PING && self.cursor.flags() & ACK != 0
    }

    /// Whether the frame is a `WINDOW_UPDATE`.
    fn begin_frame(&mut self) -> Result<bool, Flood> {
        let (kind, flags, length) = (self.cursor.kind(), self.cursor.flags(), self.cursor.payload);
        self.fresh = false;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open_headers = flags & END_HEADERS == 0;
        }
        // RFC 9113 section 10.5. One reset for each stream, and a few updates for each piece that we sent, are a client at work.
        let requests_nothing = match kind {
            DATA => length == 0 && flags & END_STREAM == 0,
            HEADERS => {
                self.resets += 1;
                false
            }
            RST_STREAM => !take_one(&mut self.resets),
            WINDOW_UPDATE => !take_one(&mut self.updates),
            // We ask for two answers in a minute.
            SETTINGS | PING | PRIORITY | GOAWAY => true,
            _ => kind > CONTINUATION,
        };
        if requests_nothing {
            self.count_idle_frame()?;
        }
        Ok(kind == WINDOW_UPDATE)
    }

    fn count_idle_frame(&mut self) -> Result<(), Flood> {
        self.idle_frames += 1;
        if self.idle_frames > FLOOD_FRAMES {
            let now = Instant::now();
            if now - self.idle_frames_since < FLOOD_TIME {
                return Err(Flood);
            }
            (self.idle_frames, self.idle_frames_since) = (0, now);
        }
        Ok(())
    }
}

/// Takes one if there is one.
fn take_one(left: &mut u64) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn hello() -> Vec<u8> {
        [vec![b'p'; PREFACE], frame(SETTINGS, 0, b"")].concat()
    }

    #[test]
    fn what_has_a_deadline_is_tracked_byte_by_byte() {
        let bytes = [
            hello(),
            frame(HEADERS, 0, b"abc"),
            frame(CONTINUATION, END_HEADERS, b"de"),
            frame(DATA, END_STREAM, b"fgh"),
            frame(PING, 0, &SHUTDOWN),
        ]
        .concat();
        let mut reader = FrameReader::new();
        let complete: Vec<_> =
            bytes.iter().map(|byte| (reader.read(&[*byte]).unwrap(), reader.is_complete()).1).collect();
        let expected = [
            vec![false; PREFACE + HEAD - 1],
            vec![true],
            vec![false; 2 * HEAD + 4],
            vec![true],
            vec![false; HEAD - 1],
            vec![true; 4],
            vec![false; HEAD + 7],
            vec![true],
        ];
        assert_eq!(complete, expected.concat());
        assert!(!reader.shutdown_answered, "a ping is not its answer");
        for cut in 0..=HEAD + 8 {
            let (mut reader, pong) = (FrameReader::new(), frame(PING, ACK, &SHUTDOWN));
            reader.read(&[&hello(), &pong[..cut]].concat()).unwrap();
            assert_eq!(reader.is_between_frames(), cut == 0 || cut == HEAD + 8);
            reader.read(&pong[cut..]).unwrap();
            assert!(reader.shutdown_answered, "{cut}");
        }
    }

    #[test]
    fn frames_that_request_nothing_are_a_flood_and_others_are_not() {
        let flood = |one: &[u8]| {
            let mut reader = FrameReader::new();
            reader.read(&[hello(), one.repeat(20_000)].concat()).is_err()
        };
        let idle = [(PING, 0), (PING, ACK), (SETTINGS, 0), (SETTINGS, ACK), (DATA, 0), (PRIORITY, 0), (GOAWAY, 0)];
        for (kind, flags) in idle.into_iter().chain([(0xfa, 0), (RST_STREAM, 0)]) {
            assert!(flood(&frame(kind, flags, b"")), "{kind}");
        }
        assert!(flood(&frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1])));
        for (kind, payload) in [(DATA, &b"x"[..]), (HEADERS, b"")] {
            assert!(!flood(&frame(kind, 0, payload)), "{kind}");
        }
        let aborted = [frame(HEADERS, END_HEADERS, b""), frame(RST_STREAM, 0, &[0; 4])].concat();
        assert!(!flood(&aborted), "one reset for each stream");
        assert!(flood(&[aborted, frame(RST_STREAM, 0, &[0; 4])].concat()));
    }
}
