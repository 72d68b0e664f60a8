//! `wiretape-xdp`: loads, replaces, inspects and removes the XDP program.

mod cli;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use libbpf_rs::PrintLevel;
use wiretape_xdp::{CardChoice, Error, Group, Load, Steering, Unloaded, status};

use cli::{Cli, Command, GroupCommand, LoadArgs, StatusArgs};

fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return tell_use(&told),
    };
    if let Ok(absolute) = std::path::absolute(&cli.pin_dir) {
        cli.pin_dir = absolute;
    }
    let to_stderr = |_: PrintLevel, message: String| {
        let _ = write!(io::stderr(), "{message}");
    };
    libbpf_rs::set_print(cli.verbose.then_some((PrintLevel::Info, to_stderr)));
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has read enough, as `| head` does.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell(&format!("wiretape-xdp: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints what was asked for instead of a command (help, the version), or what is wrong with the
/// command line.
fn tell_use(told: &clap::Error) -> ExitCode {
    match told.print().and_then(|()| io::stdout().flush()) {
        Err(error) if !told.use_stderr() && error.kind() != io::ErrorKind::BrokenPipe => {
            tell(&format!("wiretape-xdp: {}", Failure::Output(error)));
            ExitCode::FAILURE
        }
        _ => ExitCode::from(told.exit_code() as u8),
    }
}

/// Says what was done. It is, whether or not that can be written: who looks at the exit code alone
/// must not take it for a failure, after which nothing would have changed.
fn say_done(out: &mut impl Write, what: &str) {
    match writeln!(out, "{what}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tell(&format!("{what}; done, though standard output does not take it: {error}"));
        }
        _ => {}
    }
}

/// Says a sentence on standard error, whether or not anyone still listens there.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Steering(#[from] Error),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Output(error.into())
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let at = |interface: &str| Steering::at(&cli.pin_dir, interface);
    match &cli.command {
        Command::Load(args) => load(cli, args, &mut out),
        Command::Status(args) => show_status(cli, args, &mut out),
        Command::Replace(args) => {
            let interface = &args.interface.interface;
            let replaced = at(interface).replace(!args.no_frags)?;
            let (old, new, mode) = (replaced.old_program_id, replaced.program_id, replaced.mode);
            say_done(
                &mut out,
                &format!("{interface}: program {new} in place of {old}, still in {mode} mode"),
            );
            Ok(())
        }
        Command::Unload(args) => {
            let interface = &args.interface;
            let what = match at(interface).unload()? {
                Unloaded::Attached => "unloaded",
                Unloaded::Stale => {
                    "removed the pins that an interface now gone, or a killed load, left"
                }
                Unloaded::Elsewhere => "unloaded in another network namespace",
            };
            say_done(&mut out, &format!("{interface}: {what}"));
            Ok(())
        }
        Command::Group(command) => change_groups(cli, command, &mut out),
        Command::Completions { shell } => Ok(out.write_all(cli::completions(*shell).as_bytes())?),
        Command::Man { dir: None } => Ok(clap_mangen::Man::new(Cli::command()).render(&mut out)?),
        Command::Man { dir: Some(dir) } => Ok(clap_mangen::generate_to(Cli::command(), dir)?),
    }
}

fn load(cli: &Cli, args: &LoadArgs, out: &mut impl Write) -> Result<(), Failure> {
    let wanted = each_once(&args.groups);
    note_unicast(&wanted);
    let loaded = Load {
        interface: args.interface.interface.clone(),
        groups: wanted.clone(),
        mode: args.mode.into(),
        pin_dir: cli.pin_dir.clone(),
        user_group: args.pin_group.clone(),
        card: CardChoice { queues: args.queues, to_queue: args.to_queue },
        multi_buffer: !args.no_frags,
        receive_stamps: args.receive_stamps,
    }
    .run()?;
    let interface = &args.interface.interface;
    if loaded.mounted {
        tell(&format!("note: mounted a bpf file system at {}", wiretape_xdp::bpffs::ROOT));
    }
    if loaded.replaced_stale {
        tell(&format!("note: replaced the pins of an earlier {interface} that is gone"));
    }
    if let Some(reason) = &loaded.native_refused {
        tell(&format!("note: not in native mode: {reason}"));
    }
    let groups = match wanted.len() {
        0 => "no group yet (wiretape-xdp group add)".to_string(),
        1 => "1 group".to_string(),
        several => format!("{several} groups"),
    };
    let (mode, program, pins) = (loaded.mode, loaded.program_id, loaded.pins.dir().display());
    say_done(
        out,
        &format!("{interface}: {mode} mode, program {program}, {groups}, pins in {pins}"),
    );
    Ok(())
}

fn show_status(cli: &Cli, args: &StatusArgs, out: &mut impl Write) -> Result<(), Failure> {
    for interface in status::unfinished(&cli.pin_dir) {
        tell(&format!(
            "note: a load of {interface} is under way, or was killed: `wiretape-xdp unload \
             --interface {interface}` then puts back what it changed"
        ));
    }
    let all = match &args.interface {
        Some(interface) => vec![Steering::at(&cli.pin_dir, interface).status()?],
        None => status::all(&cli.pin_dir)?,
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &all)?;
        writeln!(out)?;
        return Ok(());
    }
    if all.is_empty() {
        writeln!(out, "no interface steers: no pins in {}", cli.pin_dir.display())?;
    }
    for (index, status) in all.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        table::write_status(out, status)?;
    }
    Ok(())
}

fn change_groups(cli: &Cli, command: &GroupCommand, out: &mut impl Write) -> Result<(), Failure> {
    let at = |interface: &str| Steering::at(&cli.pin_dir, interface);
    match command {
        GroupCommand::List { interface, json } => {
            let groups = at(&interface.interface).groups()?;
            if *json {
                serde_json::to_writer(&mut *out, &groups)?;
                writeln!(out)?;
            } else {
                groups.iter().try_for_each(|group| writeln!(out, "{group}"))?;
            }
        }
        GroupCommand::Add { change, to_queue } => {
            let groups = each_once(&change.groups);
            note_unicast(&groups);
            let steering = at(&change.interface.interface);
            let added = steering.add_groups(&groups, *to_queue)?;
            for group in &groups {
                let was_there = if added.contains(group) { "" } else { " (was there already)" };
                say_done(
                    out,
                    &format!("{}: steers {group}{was_there}", change.interface.interface),
                );
            }
        }
        GroupCommand::Remove(change) => {
            let groups = each_once(&change.groups);
            let removed = at(&change.interface.interface).remove_groups(&groups)?;
            for group in &groups {
                let was_not = if removed.contains(group) { "" } else { " (was not steered)" };
                say_done(out, &format!("{}: leaves {group}{was_not}", change.interface.interface));
            }
        }
    }
    Ok(())
}

/// The groups in their order, without those that were named before.
fn each_once(groups: &[Group]) -> Vec<Group> {
    let mut once = Vec::with_capacity(groups.len());
    for group in groups {
        if !once.contains(group) {
            once.push(*group);
        }
    }
    once
}

/// A mistyped address is taken as it is, since there are feeds over unicast; but not in silence.
fn note_unicast(groups: &[Group]) {
    for group in groups.iter().filter(|group| !group.address().is_multicast()) {
        tell(&format!(
            "note: {group} is not multicast (224.0.0.0 to 239.255.255.255); steered anyway"
        ));
    }
}
