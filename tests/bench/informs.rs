//! The load of informs: as many on their way as the receiver can bear, and the next one for each that
//! was answered.

use std::{
    io,
    net::UdpSocket,
    time::{Duration, Instant},
};

use super::{
    bare_door::Batch,
    load::{BATCH, Template, send_all},
    receivers::forced_buffer,
};

/// What is not answered for so long is lost: nothing is repeated, and others take its place.
const LOST: Duration = Duration::from_millis(500);

/// Who sends them.
const SOURCE: u32 = u32::from_be_bytes([127, 0, 3, 1]);

/// Sends informs and counts the Responses.
pub struct Informer {
    socket: UdpSocket,
    port: u16,
    templates: Vec<Template>,
    batch: Batch,
    sent: u64,
}

impl Informer {
    /// One that has sent nothing.
    pub fn new(port: u16) -> io::Result<Informer> {
        let socket = UdpSocket::bind(("127.0.3.1", 0))?;
        forced_buffer(&socket, 256 << 20)?;
        socket.set_nonblocking(true)?;
        let templates = vec![Template::inform(); BATCH];
        Ok(Informer { socket, port, templates, batch: Batch::new(), sent: 0 })
    }

    /// Keeps at most so many on their way for a while; gives how many were answered a second.
    pub fn run(&mut self, most: u64, duration: Duration) -> f64 {
        let start = Instant::now();
        let (mut on_their_way, mut answered) = (0_u64, 0_u64);
        let mut heard = start;
        while start.elapsed() < duration {
            if most - on_their_way >= BATCH as u64 {
                self.send();
                on_their_way += BATCH as u64;
            }
            match self.batch.receive(&self.socket) {
                Ok(received) => {
                    answered += received as u64;
                    on_their_way = on_their_way.saturating_sub(received as u64);
                    heard = Instant::now();
                }
                Err(_) if heard.elapsed() > LOST => {
                    (on_their_way, heard) = (0, Instant::now());
                }
                Err(_) => std::hint::spin_loop(),
            }
        }
        answered as f64 / start.elapsed().as_secs_f64()
    }

    fn send(&mut self) {
        let numbers = self.sent..;
        let batch: Vec<(u32, &[u8])> = numbers
            .zip(&mut self.templates)
            .map(|(number, template)| {
                template.set(number);
                (SOURCE, &template.bytes[..])
            })
            .collect();
        send_all(&self.socket, self.port, &batch);
        self.sent += BATCH as u64;
    }
}
