"""What the pages say, in English and German."""

from __future__ import annotations

from typing import Literal, get_args

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_TEXTS: dict[str, tuple[str, str]] = {
    # Navigation and login
    "line": ("Line", "Linie"),
    "parts": ("Parts", "Teile"),
    "review": ("Review", "Prüfen"),
    "charts": ("Charts", "Verläufe"),
    "threshold": ("Threshold", "Schwelle"),
    "candidates": ("Candidates", "Kandidaten"),
    "log in": ("Log in", "Anmelden"),
    "log out": ("Log out", "Abmelden"),
    "name": ("Name", "Name"),
    "password": ("Password", "Passwort"),
    "wrong": ("Name or password is wrong.", "Name oder Passwort ist falsch."),
    "wait": ("Too many attempts. Try again in {seconds} s.", "Zu viele Versuche. Nochmals in {seconds} s."),
    "lost": (
        "No connection: what you see may be old. Trying again …",
        "Keine Verbindung: Was hier steht, kann veraltet sein. Neuer Versuch …",
    ),
    "nowhere": ("There is nothing at this address.", "Unter dieser Adresse ist nichts."),
    # The line's states
    "ready": ("Ready", "Bereit"),
    "starting": ("Starting …", "Startet …"),
    "running": ("Running", "Läuft"),
    "pausing": ("Pausing after this part …", "Pause nach diesem Teil …"),
    "paused": ("Paused", "Pause"),
    "stopping": ("Stopping …", "Hält an …"),
    "held": ("Stopped: look at the cell", "Angehalten: in die Zelle schauen"),
    "gone": ("The line's process has ended", "Der Prozess der Linie ist beendet"),
    "records": ("Records only", "Nur Aufzeichnungen"),
    "no line": (
        "This page shows records; no line belongs to it.",
        "Diese Seite zeigt Aufzeichnungen; zu ihr gehört keine Linie.",
    ),
    "feeder": ("next part at the feeder", "nächstes Teil an der Zuführung"),
    "moving": ("moving to {at}", "fährt zu {at}"),
    "picture": ("picture {at}", "Bild {at}"),
    "weighing": ("weighing", "wiegt"),
    "judging": ("judging", "urteilt"),
    "pictures of": ("{taken} of {total} pictures", "{taken} von {total} Bildern"),
    # Commands
    "start": ("Start", "Start"),
    "pause": ("Pause", "Pause"),
    "resume": ("Resume", "Weiter"),
    "stop": ("Stop", "Stopp"),
    "no emergency stop": (
        "ends this part as recheck; not an emergency stop",
        "dieses Teil wird Nachprüfen; kein Not-Halt",
    ),
    "ends the part": ("after this part", "nach diesem Teil"),
    "acknowledge": ("Hand and scale are empty", "Hand und Waage sind leer"),
    "to do": (
        "1. Put the part that lies on the scale into the bin recheck. 2. Does the robot's hand hold a part? Lay "
        "something soft under it. 3. Keep out of the cell and press the button: the hand may open and the arm may "
        "move. 4. Put what fell into the bin recheck, too.",
        "1. Das Teil auf der Waage in den Behälter Nachprüfen legen. 2. Hält die Hand des Roboters ein Teil? Etwas "
        "Weiches darunterlegen. 3. Nicht in die Zelle greifen und den Knopf drücken: Die Hand kann sich öffnen, der "
        "Arm sich bewegen. 4. Was gefallen ist, auch in den Behälter Nachprüfen legen.",
    ),
    "here only": (
        "Starting, resuming and acknowledging are done at the cell's own machine.",
        "Starten, fortsetzen und bestätigen kann man nur am Rechner der Zelle.",
    ),
    "viewer": ("You are logged in as a viewer.", "Sie sind zum Ansehen angemeldet."),
    "your name": ("Your name", "Ihr Name"),
    "name missing": ("Give your name: it goes on record.", "Ihr Name fehlt: Er wird aufgezeichnet."),
    # Verdicts
    "ok": ("ok", "gut"),
    "reject": ("reject", "Ausschuss"),
    "recheck": ("recheck", "Nachprüfen"),
    "under way": ("under way", "in Arbeit"),
    # Figures
    "today": ("Today", "Heute"),
    "reject rate": ("reject rate", "Ausschussrate"),
    "waiting": ("wait for review", "warten auf Prüfung"),
    "newest": ("Newest parts", "Neueste Teile"),
    "older": ("older", "ältere"),
    "all": ("all", "alle"),
    "none": ("Nothing here yet.", "Noch nichts."),
    "none found": ("No part has “{name}” in its name.", "Kein Teil hat „{name}“ im Namen."),
    "find": ("Find part: a part of its name, Enter", "Teil suchen: Stück des Namens, Eingabetaste"),
    "part": ("Part", "Teil"),
    "time": ("Time", "Zeit"),
    "lot": ("Lot", "Los"),
    "verdict": ("Verdict", "Urteil"),
    "mass": ("Mass", "Masse"),
    "cycle": ("Cycle", "Zyklus"),
    "why": ("Why", "Warum"),
    "cavity": ("Cavity", "Kavität"),
    "bin": ("Bin", "Behälter"),
    "model": ("Model", "Modell"),
    "entry": ("Record", "Eintrag"),
    "no bin": ("none: nobody knows", "keiner: unbekannt"),
    "played back": ("played back", "nachgespielt"),
    # One part
    "over": ("threshold reached by {count} of {total} views", "Schwelle erreicht von {count} von {total} Ansichten"),
    "off mass": (
        "mass {mass} g is not {nominal} ± {tolerance} g",
        "Masse {mass} g ist nicht {nominal} ± {tolerance} g",
    ),
    "as recorded": ("As recorded", "Aufgezeichnet"),
    "heatmap": ("heatmap", "Heatmap"),
    "outline": ("found defects", "gefundene Fehler"),
    "score": ("score", "Wert"),
    "views": ("Views", "Ansichten"),
    "picture gone": ("The picture was removed by the rule of storage.", "Das Bild wurde nach der Regel gelöscht."),
    "no picture": ("This part has no such picture.", "Dieses Teil hat kein solches Bild."),
    "zoom": ("Zoom with the wheel or the buttons, drag to move.", "Mit Rad oder Knöpfen zoomen, ziehen verschiebt."),
    "fit": ("whole picture", "ganzes Bild"),
    "back": ("back", "zurück"),
    "decided": ("{who} decided: {verdict}", "{who} entschied: {verdict}"),
    "found by the line": ("as the line found it", "wie die Linie urteilte"),
    "next waits": ("Next part that waits", "Nächstes Teil, das wartet"),
    "faults": ("Faults", "Störungen"),
    "alarms": ("Alarms", "Alarme"),
    # Review
    "decide": ("Your decision", "Ihre Entscheidung"),
    "confirm": ("Confirm: {verdict}", "Bestätigen: {verdict}"),
    "overrule": ("Overrule: it is {verdict}", "Ändern: es ist {verdict}"),
    "reason": ("Reason", "Grund"),
    "note": ("Note (optional)", "Bemerkung (freiwillig)"),
    "contradiction": (
        "“{reason}” contradicts the verdict {verdict}.",
        "„{reason}“ widerspricht dem Urteil {verdict}.",
    ),
    "reason missing": ("Choose a reason or write a note.", "Bitte einen Grund wählen oder schreiben."),
    "nothing waits": ("No part waits for review.", "Kein Teil wartet auf Prüfung."),
    "n wait": ("{count} parts wait for review.", "{count} Teile warten auf Prüfung."),
    "newest of": ("The newest first, {shown} on this page.", "Die neuesten zuerst, {shown} auf dieser Seite."),
    "real defect": ("real defect", "echter Fehler"),
    "no defect": ("no defect seen", "kein Fehler zu sehen"),
    "dust": ("dust or fibre", "Staub oder Faser"),
    "reflection": ("reflection", "Spiegelung"),
    "weighed again": ("weighed again", "nachgewogen"),
    "cell's fault": ("fault of the cell", "Störung der Zelle"),
    # Charts
    "masses": ("Mass of the newest parts", "Masse der neuesten Teile"),
    "masses note": (
        "A dot is a part, red where it was rejected, for whatever reason; the band is the tolerance.",
        "Ein Punkt ist ein Teil, rot, wenn es Ausschuss wurde, warum auch immer; das Band ist die Toleranz.",
    ),
    "tolerance": ("tolerance", "Toleranz"),
    "control": ("Control charts of ok parts", "Regelkarten der guten Teile"),
    "control note": (
        "Moving average of each view's score and of the mass, with limits as soon as the baseline is known; outside "
        "them, look at lamp, lens, camera and scale.",
        "Gleitender Mittelwert der Werte jeder Ansicht und der Masse, mit Grenzen, sobald die Grundlinie bekannt ist; "
        "außerhalb nach Lampe, Objektiv, Kamera und Waage sehen.",
    ),
    "within": ("within limits", "in den Grenzen"),
    "outside": ("outside", "außerhalb"),
    "baseline": ("{count} of {total} parts for the baseline", "{count} von {total} Teilen für die Grundlinie"),
    # Threshold
    "what if": ("What another threshold would have made of these parts", "Was eine andere Schwelle ergeben hätte"),
    "what if note": (
        "The newest {count} parts of this model that were inspected whole. T is the score from which on a view counts "
        "as defective. Nothing here changes the line.",
        "Die neuesten {count} vollständig geprüften Teile dieses Modells. T ist der Wert, ab dem eine Ansicht als "
        "fehlerhaft zählt. Nichts hier ändert die Linie.",
    ),
    "at": ("with T = {threshold}", "mit T = {threshold}"),
    "now": ("now: T = {threshold}", "jetzt: T = {threshold}"),
    "good lost": ("confirmed good, rejected", "bestätigt gut, abgelehnt"),
    "bad kept": ("confirmed defective, passed", "bestätigt fehlerhaft, durchgelassen"),
    "statistic": (
        "parts by the score that is reached by {k} of their views",
        "Teile nach dem Wert, der von {k} ihrer Ansichten erreicht wird",
    ),
    # Candidates
    "candidates note": (
        "Models that learned from parts which people confirmed as good. One may inspect after it told the known parts "
        "of the last challenge apart and a second person released it. No line changes by itself.",
        "Modelle, die aus bestätigt guten Teilen dazugelernt haben. Eines darf prüfen, nachdem es die bekannten Teile "
        "der letzten Bewährungsprobe richtig beurteilt und eine zweite Person es freigegeben hat. Keine Linie wechselt "
        "von selbst.",
    ),
    "make candidate": ("Make a candidate", "Kandidaten anlegen"),
    "make note": (
        "The line's model learns, in a copy, from all parts that were confirmed as good since it was made. Then known "
        "parts are played back to it: whoever looks after the line must have challenged it with these before. The line "
        "goes on as it is; this takes minutes.",
        "Das Modell der Linie lernt in einer Kopie aus allen Teilen, die bestätigt gut sind, seit es entstand. Danach "
        "werden ihr bekannte Teile vorgespielt: Mit diesen muss die Linie vorher auf die Probe gestellt worden sein, "
        "von wem sie betreut wird. Die Linie läuft weiter wie bisher; es dauert Minuten.",
    ),
    "make elsewhere": (
        "Candidates are made at the page of a line, or by `twinspect candidate make`.",
        "Kandidaten entstehen auf der Seite einer Linie oder mit `twinspect candidate make`.",
    ),
    "making": ("A candidate is being made …", "Ein Kandidat entsteht …"),
    "candidate": ("Candidate {entry}", "Kandidat {entry}"),
    "made": ("Made", "Angelegt"),
    "extends": ("Extends model", "Erweitert Modell"),
    "learned": ("New parts (confirmed by)", "Neue Teile (bestätigt von)"),
    "challenge": ("Challenge", "Bewährungsprobe"),
    "told apart": ("{right} of {total} known parts right", "{right} von {total} bekannten Teilen richtig"),
    "is unchallenged": ("challenge not ended", "Probe nicht beendet"),
    "is failed": ("failed", "durchgefallen"),
    "is passed": ("waits for release", "wartet auf Freigabe"),
    "is released": ("released", "freigegeben"),
    "release": ("Release", "Freigeben"),
    "release note": (
        "You let this model inspect. It has to be another person than the one who had it made. The line goes on with "
        "its own model until it is started with this one.",
        "Sie lassen dieses Modell prüfen. Wer es anlegen ließ, darf es nicht selbst freigeben. Die Linie prüft mit "
        "ihrem Modell weiter, bis sie mit diesem gestartet wird.",
    ),
    "released by": ("{who} released it:", "{who} hat es freigegeben:"),
    "next start": (
        "It inspects after the next start with --model {model}",
        "Es prüft nach dem nächsten Start mit --model {model}",
    ),
    "no model": ("No part was inspected yet.", "Noch wurde kein Teil geprüft."),
}

REASONS = ("real defect", "no defect", "dust", "reflection", "weighed again", "cell's fault")
"""Reasons of a decision that can be chosen without a keyboard; they go on record in English."""


class Texts:
    """The texts of one language.

    Parameters
    ----------
    language : Language
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self._place = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values filled in."""
        return _TEXTS[key][self._place].format(**values)

    def number(self, value: float | None, digits: int) -> str:
        """Return a number as this language writes it, a dash for none."""
        text = "–" if value is None else f"{value:.{digits}f}"
        return text.replace(".", ",") if self.language == "de" else text


def choose_language(cookie: str | None, accepted: str) -> Language:
    """Return the language that was chosen, else the one that the browser asks for first, else English."""
    for wanted in (cookie or "", *accepted.split(",")):
        for language in LANGUAGES:
            if wanted.strip().lower().startswith(language):
                return language
    return "en"
