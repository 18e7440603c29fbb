//! From candies to an image: what a box is made of, and what a plan comes to where nothing runs yet.
//!
//! | module | what it holds |
//! |---|---|
//! | `chain` | a box and the boxes it starts from, down to an image that is no box |
//! | `builder` | the boxes that builders run in |
//! | `plan` | a plan for a host, turned into one for an image |
//! | `deploy` | the deploy that an image describes by itself |
//! | [`labels`] | what an image says about itself, so that a deploy needs no project |

mod builder;
mod chain;
mod deploy;
pub mod labels;
mod plan;

pub use builder::builder_box;
pub use chain::{Base, BoxLayer, Chain};
pub use deploy::{Described, NotDescribed, described};
pub use plan::{ImagePlan, SUPERVISORD, for_image};
