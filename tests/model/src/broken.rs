//! The protocol with one rule taken away.

/// A rule that is taken away; the exploration must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// The commit does not wait for the restore.
    CommitsBeforeRestored,
    /// A failure behind the commit rolls back like one before it.
    RollsBackAfterCommit,
    /// The source's copy is removed before the destination has been resumed.
    DiscardsBeforeResume,
    /// "Rolled back" is said when the thaw was ordered, not when the container was seen running.
    ReportsBeforeSeenRunning,
    /// The orchestrator acts first and stores then; it may die in between.
    ActsBeforeStoring,
    /// A commit whose reply was lost counts as refused.
    TakesALostReplyForNo,
    /// A frozen source thaws by itself when nobody has called for a while.
    ThawsOnATimer,
    /// A restored copy runs at once.
    RestoresRunning,
    /// Agents carry out whatever epoch a command has.
    IgnoresEpochs,
    /// A late thaw of a migration that was closed on the source is carried out once more.
    ThawsWhatIsClosed,
    /// A restarted orchestrator forgets what it was waiting for.
    ForgetsWhatIsOutstanding,
    /// Post-copy: the source's copy is removed although memory of it is still to go.
    DiscardsUndrained,
    /// Post-copy: nobody ends a container whose memory can never come.
    RunsOnZeros,
    /// Post-copy: the source hears that nothing is missing before the destination has written that down.
    TellsBeforeNoting,
    /// Post-copy: a source that asks is not answered by a destination that takes no memory any more.
    ForgetsThatAllCame,
    /// Post-copy: what is declared lost is not ended, although all of its memory may be there.
    LeavesTheLost,
    /// Post-copy: the source goes on by itself when the destination has lost its memory.
    ThawsWhatIsLost,
}

impl Broken {
    /// All of them.
    pub const ALL: [Broken; 17] = [
        Broken::CommitsBeforeRestored,
        Broken::RollsBackAfterCommit,
        Broken::DiscardsBeforeResume,
        Broken::ReportsBeforeSeenRunning,
        Broken::ActsBeforeStoring,
        Broken::TakesALostReplyForNo,
        Broken::ThawsOnATimer,
        Broken::RestoresRunning,
        Broken::IgnoresEpochs,
        Broken::ThawsWhatIsClosed,
        Broken::ForgetsWhatIsOutstanding,
        Broken::DiscardsUndrained,
        Broken::RunsOnZeros,
        Broken::TellsBeforeNoting,
        Broken::ForgetsThatAllCame,
        Broken::LeavesTheLost,
        Broken::ThawsWhatIsLost,
    ];
}
