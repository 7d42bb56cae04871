//! Messages over TCP, each answered before the next, on many connections by one thread.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::tools::Aim;
use crate::tools::socket::{Poll, connect, receive};

const BUFFER_SIZE: usize = 256 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    aim: Aim,
    /// Bytes of an answer
    #[arg(long)]
    size: usize,
    /// Ask for the bytes by their number, instead of sending them
    #[arg(long)]
    asks: bool,
}

pub(crate) fn run(Options { aim, size, asks }: &Options) -> Result<()> {
    let message = if *asks { (*size as u64).to_le_bytes().to_vec() } else { vec![b'x'; *size] };
    let (mut poll, mut connections) = (Poll::new()?, Vec::new());
    for number in 0..aim.connections {
        let mut stream = connect(aim.address)?;
        poll.add(&stream, number)?;
        stream.write_all(&message)?;
        connections.push((stream, *size));
    }
    let (mut count, mut buffer) = (0_u64, vec![0; BUFFER_SIZE]);
    let deadline = Instant::now() + aim.length();
    while Instant::now() < deadline {
        for number in poll.wait()? {
            let (stream, missing) = &mut connections[number];
            match receive(stream, &mut buffer) {
                Some(0) => bail!("a connection was closed"),
                received => *missing = missing.saturating_sub(received.unwrap_or(0)),
            }
            if *missing == 0 {
                count += 1;
                *missing = *size;
                stream.write_all(&message)?;
            }
        }
    }
    println!("{count}");
    Ok(())
}
