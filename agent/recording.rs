//! Recordings: every input of the core, as it came, for `evenkeel replay`.
//!
//! A recording is a line that names the format, then frames: the length of each in four octets,
//! lowest first, and that many octets of postcard. The first frame is the state that the run began
//! with, the others are inputs. A recording that was cut off is good up to its last whole frame.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{input::Input, state::State, time::Time, usm::LocalEngine};
use serde::{Deserialize, Serialize};
use tracing::error;

/// The first line of a recording.
pub const MAGIC: &[u8] = b"evenkeel recording 5\n";

/// A frame is a datagram and a few octets, or a configuration, or the state of all objects.
const LONGEST_FRAME: u32 = 1 << 30;

/// What a run began with.
#[derive(Debug, Serialize, Deserialize)]
pub struct Beginning {
    /// The state that was put back.
    pub state: State,
    /// How long nobody had listened.
    pub deaf: Duration,
    /// When it was put back.
    pub now: Time,
    /// What the wall clock showed at the origin of the clock.
    pub origin_ms: i64,
    /// The identifier of its echoes, which is in every reply.
    pub identifier: u16,
    /// Its SNMP engine.
    pub engine: LocalEngine,
    /// The last number that was in the spool.
    pub last_number: u64,
}

/// Writes a recording.
pub struct Recorder {
    path: PathBuf,
    /// Nothing once writing has failed.
    out: Option<BufWriter<File>>,
    frame: Vec<u8>,
}

impl Recorder {
    /// Begins a recording in a new file, which only its owner may read: it holds communities.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn create(path: &Path, beginning: &Beginning) -> io::Result<Recorder> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(MAGIC)?;
        let mut recorder = Recorder { path: path.to_owned(), out: Some(out), frame: Vec::new() };
        recorder.write(beginning);
        Ok(recorder)
    }

    /// Adds an input. If that fails, the recording ends and the log says so: the agent goes on.
    pub fn record(&mut self, input: &Input<'_>) {
        self.write(input);
    }

    fn write(&mut self, value: &impl Serialize) {
        let Some(out) = &mut self.out else { return };
        self.frame.clear();
        let written = postcard::to_io(value, &mut self.frame)
            .map_err(|error| io::Error::other(error.to_string()))
            .and_then(|frame| {
                let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(frame)
            });
        self.end_if(written);
    }

    /// Hands what was recorded to the kernel.
    pub fn flush(&mut self) {
        if let Some(out) = &mut self.out {
            let flushed = out.flush();
            self.end_if(flushed);
        }
    }

    fn end_if(&mut self, written: io::Result<()>) {
        if let Err(failed) = written {
            error!("the recording {} ends here: {failed}", self.path.display());
            self.out = None;
        }
    }
}

/// Reads a recording.
pub struct Recording {
    input: BufReader<File>,
    frame: Vec<u8>,
}

/// Why a recording can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file can't be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// A frame makes no sense.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl Recording {
    /// Reads on behind the first line, up to the inputs.
    ///
    /// # Errors
    ///
    /// It can't be read or is damaged.
    pub fn open(file: File) -> Result<(Recording, Beginning), RecordingError> {
        let mut recording =
            Recording { input: BufReader::with_capacity(1 << 20, file), frame: Vec::new() };
        let mut magic = [0; MAGIC.len()];
        recording.input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(RecordingError::Damaged("its first line is another".to_owned()));
        }
        if !recording.next_frame()? {
            return Err(RecordingError::Damaged("it ends before it begins".to_owned()));
        }
        let beginning = postcard::from_bytes(&recording.frame).map_err(damaged)?;
        Ok((recording, beginning))
    }

    /// The next input; nothing at the end, or where it was cut off.
    ///
    /// # Errors
    ///
    /// It can't be read or is damaged.
    pub fn next(&mut self) -> Result<Option<Input<'_>>, RecordingError> {
        if !self.next_frame()? {
            return Ok(None);
        }
        postcard::from_bytes(&self.frame).map(Some).map_err(damaged)
    }

    fn next_frame(&mut self) -> Result<bool, RecordingError> {
        let mut length = [0; 4];
        match self.input.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        let length = u32::from_le_bytes(length);
        if length > LONGEST_FRAME {
            return Err(RecordingError::Damaged(format!("a frame of {length} octets")));
        }
        self.frame.clear();
        let read = self.input.by_ref().take(length.into()).read_to_end(&mut self.frame)?;
        Ok(read == length as usize)
    }
}

fn damaged(error: postcard::Error) -> RecordingError {
    RecordingError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_core::input::{Datagram, Door, Ear};

    #[test]
    fn what_was_recorded_is_read_back_up_to_where_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let beginning = Beginning {
            state: State::default(),
            deaf: Duration::from_secs(3),
            now: Time::from_secs(9),
            origin_ms: 7,
            identifier: 5,
            engine: LocalEngine {
                id: "0x8000000001".parse().unwrap(),
                boots: 3,
                started: Time::from_secs(9),
            },
            last_number: 11,
        };
        let source = "192.0.2.1:5000".parse().unwrap();
        let inputs = [
            Input::Datagram(Datagram {
                source,
                received: Time::from_secs(10),
                door: Door::default(),
                bytes: b"abc",
            }),
            Input::Heard { ear: Ear::Traps, up_to: Time::from_secs(11), lost: 0, limited: 0 },
        ];
        let mut recorder = Recorder::create(&path, &beginning).unwrap();
        for input in &inputs {
            recorder.record(input);
        }
        recorder.flush();
        drop(recorder);
        let whole = std::fs::read(&path).unwrap();
        for (cut, expected) in [(0, 2), (1, 1), (whole.len() / 2, 0)] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let Ok((mut recording, read)) = Recording::open(File::open(&path).unwrap()) else {
                assert_eq!(expected, 0);
                continue;
            };
            assert_eq!(read.deaf, beginning.deaf);
            let mut count = 0;
            while let Some(input) = recording.next().unwrap() {
                assert_eq!(input, inputs[count]);
                count += 1;
            }
            assert_eq!(count, expected);
        }
    }
}
