//! Temperature: the hottest sensor, where the node has any.

use sysinfo::Components;

/// The node's sensors.
#[derive(Debug)]
pub(super) struct Thermometer {
    sensors: Option<Components>,
}

impl Thermometer {
    /// Looks for sensors once; they do not come and go.
    pub(super) fn new() -> Self {
        Self { sensors: Components::new_with_refreshed_list().ok() }
    }

    /// Degrees Celsius of the hottest one.
    pub(super) fn hottest_c(&mut self) -> Option<f64> {
        let sensors = self.sensors.as_mut()?;
        sensors.refresh(false);
        sensors
            .iter()
            .filter_map(|sensor| sensor.temperature())
            .map(f64::from)
            // Unconnected sensors report nonsense.
            .filter(|celsius| (-60.0..=200.0).contains(celsius))
            .max_by(f64::total_cmp)
    }
}

impl Default for Thermometer {
    fn default() -> Self {
        Self::new()
    }
}
