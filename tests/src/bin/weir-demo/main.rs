//! The demo.

use clap::Parser;

#[derive(Parser)]
enum Command {
    Backend {
        #[arg(long)]
        listen: std::net::SocketAddr,
        #[arg(long)]
        name: String,
    },
}

fn main() {
    match Command::parse() {
        Command::Backend { listen, name } => {
            weir_tests::backend::serve_forever(listen, &name).unwrap()
        }
    }
}
