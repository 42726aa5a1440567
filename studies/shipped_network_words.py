"""What is written by hand on the page of the shipped network: definitions and limits."""

NOT_FOR = """\
- **No patient care.** No diagnosis, treatment, triage or choice of patients for a trial may rest on these maps. It
  is no medical device, and no clinician has judged its maps.
- **No claim about patients.** It learned from simulated exams alone and was scored on simulated exams; of real ones
  it was applied to a single slice of one child. How right it is in patients is not known. A network gives a plausible
  map of anything, also of an exam that is unlike all it learned from.
- **CBF and CBV as absolute numbers.** A series without a known scale does not hold them. The network puts healthy
  tissue where simulated people have it; compare regions of one exam, or scale by a reference of your own. Never compare
  with a threshold in mL/100 g/min.
- **An infarct core**, and decisions by volumes of core and penumbra: core is no output, and was not scored.
- **Tumours**, wherever contrast agent leaks from vessels, and CBV followed up in them. None of its training exams
  leaks: take `dscgan-jax deconvolve --leakage=bidirectional`.
- **Children**, infants above all. The simulated heads and their flow are those of adults.
- **Other imaging**: CT perfusion, ASL, DCE, spin-echo DSC, anything but one bolus of a gadolinium chelate, two boluses
  in one series, or a series from which something was subtracted already.
- **A slice alone, and slices that hold no large artery**: the network is shown the AIF that is found in them, and Tmax
  changes with it, by up to half a second in the exams below.
- **Exams with the warning `unlike_training`**, `no_arterial_input` or `arterial_low`, or whose values leave the ranges
  below; and not every unlikeness shows in a series.
- **Small lesions**, below 5 mL of Tmax > 6 s: their Dice is not asked for here, and little is known of it.
- **Other weights**: scores here belong to the digest above alone."""

NOT_IN_PHANTOM = """\
- collaterals as vessels of their own: they only make the border of a lesion milder; no reversed flow in
  pial arteries, no steal, no stent or bypass
- haemorrhage, calcification, metal, shunts, coils and clips, and the signal that they take away
- tumours, abscesses, oedema, displaced tissue, malformed vessels, aneurysms
- too much flow: luxury perfusion after reopening, seizure, migraine, inflammation
- low flow everywhere, as in cardiac failure or after resuscitation: healthy grey matter has 35 mL/100 g/min or more
- leakage of contrast agent, T1 effects of agent within vessels, a second injection
- distortion of echo-planar images, slices acquired at different times, ghosts, noise that differs from place to place,
  movement within a frame or in nearly every frame
- skulls, territories and vessels of other shapes than those that one set of formulas gives"""

HOW = """\
Test exams come from seeds that no training draws from. `varied` is the preset of `configs/physics.py`; on `acute` and
`chronic` the network was not trained. Errors (MAE) are means over the voxels that the true brain and that of the source
share, then over exams; those of CBF and CBV are taken after one factor an exam. The *null* is the training median of
each map everywhere in the brain, the *best constant* each exam's own true median, which no method can know. *Dice
pooled* sums volumes of Tmax > 6 s over exams, and counts what is found outside the true brain as false. The automatic
methods and the network are given the series, its frame length and its echo time alone. Tmax of oSVD is as it comes: the
offset that deconvolution adds to it ([validation](validation.md)) is not taken off. Of a method that refuses
an exam its picture is empty."""
