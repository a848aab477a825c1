"""Texts of what concerns a slide as a whole: its header, its sample and its flags."""

from __future__ import annotations

from napari_leukocls.widgets.texts.translate import _


class Case:
    """The header of a slide, and what is done with it as a whole."""

    NOT_ANALYSED = _("This slide is not analysed yet: press Ctrl+Return.")
    INCOMPLETE = _("A field of this slide is not analysed yet: press Analyse, then sign.")
    CLOSED = (
        _("{n} field of this slide is not open: open it too, then sign."),
        _("{n} fields of this slide are not open: open them too, then sign."),
    )
    TWICE = _("{name} is the same picture as {other}, so it was closed: its cells are counted once.")
    NAME_NEEDED = _("a slide needs a name: type one.")
    TO_ANALYSE = (_("{n} field to analyse"), _("{n} fields to analyse"))
    OF_GOAL = _("{n} of {goal}")
    OF_ALL = _("{n} counted, {waiting} to review")
    NOT_OPEN = _(" in {n} fields, {closed} of them not open")
    OPENING = _("Opening a slide")
    BACK = (
        _("{name} is open again, with {n} correction."),
        _("{name} is open again, with {n} corrections."),
    )
    SLIDE = _("Slide shown")
    SLIDE_TIP = _("The slides that are open. Choose one to see its fields, its count and its cells")
    NO_SLIDE = _("no slide")
    SIGNED_SLIDE = _("{name} ✓")
    FIELD = _("Field shown")
    FIELD_TIP = _(
        "The fields of this slide, which are counted together. Choose the one that the canvas shows"
    )
    FIELD_ENTRY = _("{i} of {n}: {name}")
    STATE = _("State of the slide")
    GRADE = _("Quality of the pictures")
    GRADES = {"green": _("quality green"), "amber": _("quality amber"), "red": _("quality red")}
    GRADE_TIP = _("Quality of the pictures: {text}")
    GO = _("Sign, export, next")
    GO_TIP = _(
        "Sign the count, write the files into the folder for results, and show the next slide. A slide that is not "
        "analysed yet is analysed (Ctrl+Return)"
    )
    DETAILS = _("Slide details")
    DETAILS_SHORT = _("Details")
    DETAILS_TIP = _("Name and identifier of the slide, its fields, and where its files are written")
    NAME = _("Slide name")
    NAME_TIP = _("Name of the slide, as it stands in the report")
    IDENTIFIER = _("Identifier")
    IDENTIFIER_TIP = _("Number of the sample, for example of the order. No name and no birthday of a patient")
    JOINS = _("New images are fields of this slide")
    JOINS_TIP = _("Images that you open are added to this slide, for example one by one at the microscope")
    JOIN = _("One slide of all open images")
    JOIN_TIP = _("Make fields of this slide of all open images that are not analysed yet")
    CLOSE = _("Close slide")
    CLOSE_TIP = _("Close the slide that is shown. Its cells and its review stay in the review store")
    ROUND = _("{learner} is in a proficiency round: cells of results that are opened meanwhile are hidden.")
    FOLDER = _("Folder for results")
    FOLDER_TIP = _("Folder into which signed slides are written. It is remembered")
    CHOOSE_FOLDER = _("Choose folder for results")
    PATTERN = _("Named")
    PATTERN_TIP = _(
        "Name of a slide's own folder. It may hold {slide}, {identifier}, {date} and {reviewer}. It is remembered"
    )
    FORMATS = _("Further formats")
    FORMATS_TIP = _(
        "Formats besides the tables, the picture and the report, separated by commas, such as xlsx, fhir, hl7, geojson"
    )
    MESSAGE = _("Message on the slide")
    ASK_TITLE = _("Sign {name}?")
    ASK = _("{doubts}\n\nSign all the same?")
    NOT_SIGNED = _("Not signed.")
    WHO = _("Enter your name at 'Reviewer' in the Review dock first: it stands under the signature.")
    BLIND = _("The classes are hidden for a blind second read or a count with keys: end it first.")
    HIDDEN = _("The count is hidden while cells are read blind or counted with keys.")
    DONE = _("{name} is signed. Files in {folder}.")
    NO_NEXT = _("No further slide is open.")
    NO_ONE = _("Open a smear first: drag it in.")
    BAD_PATTERN = _(
        "the name of the folder may hold {{slide}}, {{identifier}}, {{date}} and {{reviewer}}, but not {word}."
    )


class Sample:
    """Values of the sample, and flags."""

    TITLE = _("Sample and flags")
    TITLE_TIP = _("Counts of the analyser and the patient's number; flags by the rules of the laboratory")
    WBC = _("WBC")
    WBC_TIP = _("Leukocytes per litre, as the analyser counts them: absolute counts are made from it")
    WBC_HINT = _("7.5 (10⁹/L), or 7500 /µL")
    RBC = _("RBC")
    RBC_TIP = _("Red cells per litre, as the analyser counts them: platelets are estimated from it")
    RBC_HINT = _("4.6 (10¹²/L)")
    PATIENT = _("Patient number")
    PATIENT_TIP = _(
        "A number of the laboratory, not a name. Earlier counts of the same patient are found by it"
    )
    AGE = _("Age")
    AGE_TIP = _("Years, or 6 m, 3 w, 8 d; for the reference ranges of the laboratory")
    SEX = _("Sex")
    SEX_TIP = _("For the reference ranges of the laboratory")
    NOT_KNOWN = _("not known")
    FEMALE = _("female")
    MALE = _("male")
    NO_CASE = _("Analyse a smear first.")
    ABNORMAL = _("Abnormal: {text}")
    UNCERTAIN = _("Uncertain: {text}")
    NOTHING = _("No rule of the laboratory raises a flag.")
