//! Reach: who may talk to whom in an environment. The judge itself is [`choreo_reach`], which knows network policies and
//! nothing of the platform; here is the question as people ask it.

mod question;

pub use choreo_reach::{
    EgressPorts, Explanation, Flow, NotUnderstood, Party, Pod, Policies, PolicyRef, Request, Side, Transport,
};
pub use question::{Hop, Path, QuestionError, Report, explain};
