//! Where an engine works, and for whom.

use charly_ir::Text;
use charly_ir::facts::Facts;
use charly_ir::plan::Step;
use charly_ir::text::Tokens;

use crate::process::Cancel;
use crate::reboot::Reboot;
use crate::resource::Desk;
use crate::tree::{self, Node, Root, TreeError};

/// Where an engine works, and for whom.
#[derive(Debug)]
pub(crate) struct Venue {
    /// The folder that stands for `/`.
    pub root: Root,
    /// What is known of it. The user in it is the deploying user, on both sides.
    pub facts: Facts,
    /// Which of the two ledgers this process keeps.
    pub side: Side,
    /// Who owns what is placed: user and group.
    pub owner: (u32, u32),
    /// How it is asked to reboot; absent where it cannot.
    pub reboot: Option<Reboot>,
    /// Whether to stop.
    pub cancel: Cancel,
    /// Its package managers.
    pub desk: Desk,
}

/// One of the two ledgers of a venue, and the steps it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What the deploying user owns, in the user's home.
    User,
    /// What makes root act.
    System,
}

impl Venue {
    /// Returns what tokens stand for here.
    pub(crate) fn tokens(&self) -> Tokens {
        self.facts.user.tokens()
    }

    /// Tells whether a thing could not be looked at for want of root's rights, which a look does without.
    pub(crate) fn is_blind_for(&self, error: &TreeError) -> bool {
        self.side == Side::System
            && !rustix::process::geteuid().is_root()
            && error.source.kind() == std::io::ErrorKind::PermissionDenied
    }

    /// Resolves a text's tokens.
    pub(crate) fn resolve(&self, text: &Text) -> String {
        text.resolve(&self.tokens())
    }

    /// Returns the deploying user's home folder, without a trailing slash.
    pub(crate) fn home(&self) -> &str {
        self.facts.user.home.trim_end_matches('/')
    }

    /// Tells whether a step ran when the image was built that this machine was made of.
    pub(crate) fn ran_in_image(&self, step: &Step) -> bool {
        let mark = step.mark_in_image(self.facts.user.uid);
        step.runs() && matches!(tree::glance(&self.root, &mark), Ok(Node::File { .. }))
    }

    /// Returns the folder of this side's ledger, as the venue sees it.
    pub(crate) fn ledger_path(&self) -> String {
        match self.side {
            Side::User => format!("{}/.config/opencharly/installed", self.home()),
            Side::System => "/var/lib/opencharly/installed".to_owned(),
        }
    }
}
