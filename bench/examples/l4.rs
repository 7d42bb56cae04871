//! quick look
use weir_l4::measure::Measured; use weir_l4::*; use weir_model::*;
use weir_tests::packet::build;
fn main(){ 
 let fwd=std::env::args().nth(1).unwrap_or("ipip".into()); let f=Forward::NAMES.iter().find(|(n,_)|*n==fwd).unwrap().1;
 let mut m=Measured::load(1).unwrap();
 let vip=|name:&str,ip:&str,proto,pool|Vip{name:name.into(),address:ip.parse().unwrap(),port:std::num::NonZeroU16::new(80),protocol:proto,upstream:pool,forward:f,hash:HashBy::FiveTuple,idle:std::time::Duration::from_secs(60)};
 let pool=|name:&str,base:&str|Pool{name:name.into(),slow_start:Default::default(),members:(1..=100).map(|i|PoolMember{address:format!("{base}{}{}",if base.contains(':'){format!("{i:x}]")}else{i.to_string()},":80").parse().unwrap(),weight:100,is_up:true,server_id:None}).collect()};
 let w=Wanted{vips:vec![vip("a","203.0.113.1",Protocol::Tcp,0),vip("b","203.0.113.1",Protocol::Udp,0),vip("c","2001:db8::1",Protocol::Tcp,1)],pools:vec![pool("p","10.9.0."),pool("q","[fd09::")],listeners:vec![],tunnel:Tunnel::default()};
 println!("apply {:?}",m.balance(&w).unwrap());
 let tcp=build("eth > ipv4 198.18.0.1 > 203.0.113.1 > tcp 40000 > 80 > bytes 100").unwrap(); let mut tcp=tcp; tcp[14+20+13]=0x10;
 let udp=build("eth > ipv4 198.18.0.1 > 203.0.113.1 > udp 40000 > 80 > bytes 100").unwrap();
 let mut syn=tcp.clone(); syn[14+20+13]=2;
 let v6=build("eth > ipv6 2001:db8:1::1 > 2001:db8::1 > tcp 40000 > 80 > bytes 100").unwrap();
 let non=build("eth > ipv4 198.18.0.1 > 203.0.113.99 > tcp 40000 > 80 > bytes 100").unwrap();
 for _ in 0..3 { 
  let best=|m:&mut Measured,p:&str,pk:&[u8]| (0..5).map(|_|m.time(p,pk,300_000).unwrap()).fold(f64::MAX,f64::min);
  let e=best(&mut m,"empty",&tcp); let s={m.set_packet(&tcp,1).unwrap();best(&mut m,"l4_shell",&tcp)}; let n=best(&mut m,"l4_plain",&non);
  print!("empty {e:.1} shell {s:.1} nonvip {n:.1} ({:.2}x)",n/e);
  for (name,pk) in [("tcp",&tcp),("udp",&udp),("syn",&syn),("v6",&v6)] { for fl in [1,16384,262144]{ m.set_packet(pk,fl).unwrap(); let prog=if name=="v6"{"l4_v6"}else{"l4"}; let t=best(&mut m,prog,pk); print!(" | {name}/{fl} {t:.1} {:.2}x net {:.1}",t/e,t-s);} }
  println!();
 } }
